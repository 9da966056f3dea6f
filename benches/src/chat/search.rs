//! Search in many messages, the tail of a long thread, and a start on them.
//!
//! The baseline of each is the same question to the same file through bare rusqlite.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use agentbus_chat::model::{SearchOrder, SearchQuery};
use agentbus_chat::store::MessageQuery;
use agentbus_chat::{Chat, Draft, NewAgent, NewThread, ThreadId};
use rusqlite::Connection;

use super::table::{latency, row};
use super::{program, settings};

const WRITERS: usize = 256;
const ROUNDS: usize = 300;

/// Messages of the long thread.
const LONG: usize = 50_000;

const NEWEST: &str = "SELECT m.id, m.content FROM chat_search AS s CROSS JOIN messages AS m ON m.seq = s.rowid \
                      WHERE chat_search MATCH ?1 ORDER BY s.rowid DESC LIMIT 20";
const RANKED: &str = "SELECT m.id, m.content FROM chat_search AS s CROSS JOIN messages AS m ON m.seq = s.rowid \
                      WHERE chat_search MATCH ?1 ORDER BY s.rank LIMIT 20";
const TAIL: &str =
    "SELECT id, content FROM messages WHERE thread_id = ?1 ORDER BY seq DESC LIMIT 200";

pub(crate) async fn all(directory: &Path, messages: usize) {
    let path = directory.join("data/chat.db");
    // Closed to others, or the program would not serve it.
    let mut private = std::fs::DirBuilder::new();
    private.mode(0o700).create(directory.join("data")).unwrap();
    let chat = Chat::open(&path, settings()).await.unwrap();
    let who = chat.register(NewAgent::new("bench", "m")).await.unwrap();
    let mut threads = Vec::new();
    for topic in ["long", "rest"] {
        let new = NewThread::new(topic, who.agent.id.clone());
        threads.push(chat.create_thread(new).await.unwrap().thread.id);
    }
    fill(&chat, &threads, messages).await;
    let raw = Connection::open(&path).unwrap();
    let scale = if messages > 100_000 {
        ["≤ 5 ms p95", "≤ 25 ms p95"]
    } else {
        ["≤ 1 ms p95", "≤ 5 ms p95"]
    };
    for (name, text, order, sql, goal) in [
        (
            "a rare word",
            "word77",
            SearchOrder::Newest,
            NEWEST,
            scale[0],
        ),
        (
            "a common word",
            "common",
            SearchOrder::Newest,
            NEWEST,
            scale[1],
        ),
        (
            "two words",
            "common word77",
            SearchOrder::Newest,
            NEWEST,
            "",
        ),
        (
            "a common word, ranked",
            "common",
            SearchOrder::Ranked,
            RANKED,
            "",
        ),
    ] {
        let mut ours = search(&chat, text, order).await;
        // Ranking all of a common word takes seconds; ours weighs only the newest of it.
        let rounds = if sql == RANKED { 3 } else { ROUNDS };
        let mut base = bare(&raw, sql, text, rounds);
        let what = format!("search, {messages} messages, {name}");
        latency(&what, [50, 95], &mut ours, ("rusqlite", &mut base), goal);
    }
    tail(&chat, &raw, &threads[0]).await;
    drop(raw);
    chat.close().await;
    program::start(directory, messages);
}

/// Fills one thread up to its length, then the other.
async fn fill(chat: &Chat, threads: &[ThreadId], messages: usize) {
    let begin = Instant::now();
    let writers = (0..WRITERS).map(|writer| {
        let (chat, threads) = (chat.clone(), threads.to_vec());
        tokio::spawn(async move {
            for n in (writer..messages).step_by(WRITERS) {
                let (a, b) = (n % 1000, n % 97);
                let text = format!("a common message number {n} with word{a} and other{b}");
                let thread = threads[usize::from(n >= LONG)].clone();
                chat.post(Draft::new(thread, "bench", text)).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let rate = messages as f64 / begin.elapsed().as_secs_f64();
    let what = format!("posts without HTTP, {WRITERS} tasks");
    row(&what, &format!("{rate:.0}/s"), "", None, "");
}

async fn search(chat: &Chat, text: &str, order: SearchOrder) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let query = SearchQuery {
            text: text.to_owned(),
            order,
            limit: 20,
            ..SearchQuery::default()
        };
        assert_eq!(chat.search(query).await.unwrap().hits.len(), 20);
        times.push(begin.elapsed());
    }
    times
}

async fn tail(chat: &Chat, raw: &Connection, thread: &ThreadId) {
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        let query = MessageQuery {
            newest: true,
            limit: 200,
            ..MessageQuery::default()
        };
        let begin = Instant::now();
        let (page, _) = chat.messages(thread.clone(), query, false).await.unwrap();
        assert_eq!(page.len(), 200);
        ours.push(begin.elapsed());
    }
    let mut base = bare(raw, TAIL, thread.as_str(), ROUNDS);
    let what = format!("last 200 of a thread of {LONG}");
    latency(
        &what,
        [50, 95],
        &mut ours,
        ("rusqlite", &mut base),
        "≤ 20 ms",
    );
}

fn bare(connection: &Connection, sql: &str, value: &str, rounds: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        let mut statement = connection.prepare_cached(sql).unwrap();
        let rows = statement.query_map([value], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        });
        assert!(rows.unwrap().map(Result::unwrap).count() >= 20);
        times.push(begin.elapsed());
    }
    times
}
