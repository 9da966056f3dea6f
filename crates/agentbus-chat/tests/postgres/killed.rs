//! One of two nodes is killed under load: clients of the other miss nothing.
//!
//! The node that is killed is this test program, started again as a child.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use agentbus_chat::store::MessageQuery;
use agentbus_chat::{Chat, EventId, EventReader, Followed, ThreadId, WaitRequest};

use crate::nodes::{draft, guarded, node, schema, thread};

const DATABASE: &str = "AGENTBUS_NODE_DATABASE";
const THREAD: &str = "AGENTBUS_NODE_THREAD";
const POSTERS: usize = 4;

/// Acknowledged posts of each child before it is killed.
const KILLED_AFTER: [usize; 3] = [1, 40, 150];

/// Posts, and says what was acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_posts_until_it_is_killed() {
    let (Ok(url), Ok(thread)) = (std::env::var(DATABASE), std::env::var(THREAD)) else {
        return;
    };
    let chat = node(&url).await;
    let thread = ThreadId::new(thread);
    let posters = (0..POSTERS).map(|_| tokio::spawn(post(chat.clone(), thread.clone())));
    for poster in posters.collect::<Vec<_>>() {
        poster.await.unwrap();
    }
}

async fn post(chat: Chat, thread: ThreadId) {
    loop {
        let draft = draft(&thread, "from the child");
        let posted = chat.post(draft).await.unwrap();
        // One write a line, so that the kill cannot tear one apart.
        let line = format!("ack {} {}\n", posted.message.id, posted.message.seq);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

/// Runs the child until it has acknowledged so many posts, and kills it; what it acknowledged.
fn run_and_kill(url: &str, thread: &ThreadId, after: usize) -> HashMap<String, i64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "killed::child_posts_until_it_is_killed",
            "--nocapture",
        ])
        .env(DATABASE, url)
        .env(THREAD, thread.as_str())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = HashMap::new();
    let mut read = |line: &str| {
        let words = line
            .split_once("ack ")
            .map(|(_, words)| words.split_once(' '));
        if let Some(Some((id, seq))) = words {
            acknowledged.insert(id.to_owned(), seq.parse().unwrap());
        }
        acknowledged.len()
    };
    for line in lines.by_ref().map_while(Result::ok) {
        if read(&line) == after {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts as well.
    let told = lines.map_while(Result::ok).map(|line| read(&line)).last();
    assert!(told.unwrap_or(after) >= after, "the child ended by itself");
    acknowledged
}

/// Collects what a client hears that only ever waits, until a last message.
async fn waits_for_all(chat: Chat, thread: ThreadId, last: &str) -> HashMap<String, i64> {
    let (mut heard, mut after) = (HashMap::new(), 0);
    loop {
        let waited = chat.wait(WaitRequest::new(thread.clone(), after)).await;
        let waited = waited.unwrap();
        for message in waited.messages {
            assert!(message.seq > after, "in their order");
            after = message.seq;
            let twice = heard.insert(message.id.to_string(), message.seq);
            assert_eq!(twice, None);
            if message.content == last {
                return heard;
            }
        }
    }
}

/// Every event once and in order, up to a number.
async fn hears_all(reader: &mut EventReader, from: EventId, upto: EventId) {
    for expected in from + 1..=upto {
        let next = guarded("an event", reader.next()).await.unwrap().unwrap();
        assert!(matches!(next, Followed::Event(event) if event.id == expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_other_node_miss_nothing() {
    let url = schema().await;
    let here = node(&url).await;
    let thread = thread(&here).await;
    let start = here.last_event().await.unwrap();
    let mut reader = here.follow(Some(start), None).await.unwrap();
    let waiter = tokio::spawn(waits_for_all(here.clone(), thread.clone(), "the last one"));
    let mut acknowledged = HashMap::new();
    for after in KILLED_AFTER {
        let (at, within) = (url.clone(), thread.clone());
        let run = tokio::task::spawn_blocking(move || run_and_kill(&at, &within, after));
        acknowledged.extend(guarded("the kill", run).await.unwrap());
        // What the dead node held does not keep this one from writing.
        let posted = guarded("a post", here.post(draft(&thread, "from here")))
            .await
            .unwrap();
        acknowledged.insert(posted.message.id.to_string(), posted.message.seq);
    }
    here.post(draft(&thread, "the last one")).await.unwrap();

    let heard = guarded("the last wait", waiter).await.unwrap();
    for (id, seq) in &acknowledged {
        assert_eq!(heard.get(id), Some(seq), "an acknowledged message is lost");
    }
    let query = MessageQuery {
        limit: 1000,
        ..MessageQuery::default()
    };
    let (stored, _) = here.messages(thread, query, false).await.unwrap();
    let seqs: Vec<_> = stored.iter().map(|message| message.seq).collect();
    let expect: Vec<_> = (1..=i64::try_from(seqs.len()).unwrap()).collect();
    assert_eq!(seqs, expect, "no number is missing, none is there twice");
    assert_eq!(heard.len(), stored.len());
    let newest = here.last_event().await.unwrap();
    hears_all(&mut reader, start, newest).await;
    assert_eq!(here.check_search().await.unwrap(), None);
}
