//! `kill -9` while many post: what was acknowledged is there, once and in order.
//!
//! The writer is this test program itself, started again as a child. Each run is seeded; more of
//! them run with `AGENTBUS_CRASH_RUNS=200`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where, and the child tells by printing"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use agentbus_chat::store::MessageQuery;
use agentbus_chat::{Chat, ChatConfig, Draft, Followed, NewAgent, NewThread, Proof, Sync};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const DATABASE: &str = "AGENTBUS_CRASH_DATABASE";
const POSTERS: usize = 8;
const RUNS: u64 = 6;

async fn open(path: &Path) -> Chat {
    let config = ChatConfig {
        rate_limit: 0,
        ..ChatConfig::default()
    };
    Chat::open(path, config).await.unwrap()
}

/// Posts strictly and relaxed, and says what was acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_posts_until_it_is_killed() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let chat = open(Path::new(&path)).await;
    let posters = (0..POSTERS).map(|poster| tokio::spawn(post(chat.clone(), poster)));
    for poster in posters.collect::<Vec<_>>() {
        poster.await.unwrap();
    }
}

async fn post(chat: Chat, poster: usize) {
    let agent = chat
        .register(NewAgent::new("crash", format!("{poster}")))
        .await
        .unwrap();
    let new = NewThread::new(format!("thread {poster}"), agent.agent.id.clone());
    let opened = chat.create_thread(new).await.unwrap();
    let (thread, mut sync) = (opened.thread.id, opened.sync);
    loop {
        let mut draft = Draft::new(
            thread.clone(),
            agent.agent.id.as_str(),
            "acknowledged words",
        );
        draft.proof = Proof::Token(agent.token.clone());
        draft.sync = Sync::Strict {
            expected_last_seq: Some(sync.current_seq),
            reply_token: Some(sync.reply_token.clone()),
        };
        let posted = chat.post(draft).await.unwrap();
        // One write a line, so that the kill cannot tear one apart.
        let line = format!("ack {} {}\n", posted.message.id, posted.message.seq);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        sync = posted.next.unwrap();
    }
}

/// Runs the child until it has acknowledged so many posts, and kills it; what it acknowledged.
fn run_and_kill(path: &Path, after: usize) -> HashMap<String, i64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_posts_until_it_is_killed", "--nocapture"])
        .env(DATABASE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = HashMap::new();
    for line in lines.by_ref().map_while(Result::ok) {
        read(&line, &mut acknowledged);
        if acknowledged.len() == after {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts as well.
    lines
        .map_while(Result::ok)
        .for_each(|line| read(&line, &mut acknowledged));
    assert!(acknowledged.len() >= after, "the child ended by itself");
    acknowledged
}

fn read(line: &str, acknowledged: &mut HashMap<String, i64>) {
    let Some(at) = line.find("ack ") else { return };
    let mut words = line[at + 4..].split(' ');
    if let (Some(id), Some(Ok(seq))) = (words.next(), words.next().map(str::parse)) {
        acknowledged.insert(id.to_owned(), seq);
    }
}

async fn check(path: &Path, acknowledged: &HashMap<String, i64>) {
    let chat = open(path).await;
    assert_eq!(
        chat.check_search().await.unwrap(),
        None,
        "the index fits the messages"
    );
    let mut stored = HashMap::new();
    let threads = chat.threads(Default::default()).await.unwrap().threads;
    for thread in threads {
        let mut query = MessageQuery {
            limit: 1000,
            ..MessageQuery::default()
        };
        loop {
            let page = chat
                .messages(thread.id.clone(), query.clone(), false)
                .await
                .unwrap()
                .0;
            let Some(last) = page.last() else { break };
            assert!(page.is_sorted_by(|a, b| a.seq < b.seq));
            query.after_seq = last.seq;
            for message in page {
                let twice = stored.insert(message.id.to_string(), message.seq);
                assert_eq!(twice, None);
            }
        }
    }
    for (id, seq) in acknowledged {
        assert_eq!(stored.get(id), Some(seq), "an acknowledged message is lost");
    }
    let mut seqs: Vec<_> = stored.values().copied().collect();
    seqs.sort_unstable();
    let expect: Vec<_> = (1..=i64::try_from(seqs.len()).unwrap()).collect();
    assert_eq!(seqs, expect, "no number is missing, none is there twice");
    resumes(&chat, &stored).await;
    chat.close().await;
}

/// A reader from the beginning hears of every stored message once.
async fn resumes(chat: &Chat, stored: &HashMap<String, i64>) {
    let newest = chat.last_event().await.unwrap();
    let mut events = chat.follow(Some(0), None).await.unwrap();
    let mut told = 0;
    loop {
        let Some(Followed::Event(event)) = events.next().await.unwrap() else {
            panic!("events are missing");
        };
        told += usize::from(&*event.kind == "msg.new");
        if event.id == newest {
            break;
        }
    }
    assert_eq!(told, stored.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives() {
    let runs = std::env::var("AGENTBUS_CRASH_RUNS").ok();
    let runs = runs.and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    for seed in 0..runs {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chat.db");
        let after = StdRng::seed_from_u64(seed).random_range(1..200);
        let killed = path.clone();
        let run = tokio::task::spawn_blocking(move || run_and_kill(&killed, after));
        let acknowledged = run.await.unwrap();
        println!(
            "seed {seed}: killed after {} acknowledged posts",
            acknowledged.len()
        );
        check(&path, &acknowledged).await;
    }
}
