//! A database that fails while it is used, and works again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentbus::Subscription;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::client::{Host, quiet};

/// Longest time that any step may take before the test has failed.
const GUARD: Duration = Duration::from_secs(60);

/// More posts than a follower of events may lag behind, with the four events of each.
const POSTS: i64 = 1200;
const POSTERS: i64 = 16;

/// A host whose database the test can reach as well.
async fn host(directory: &Path) -> (Host, PathBuf) {
    let database = directory.join("chat.db");
    let kept = database.clone();
    let host = Host::start_with(move |config, _| {
        config.chat = quiet();
        config.chat_database = Some(kept);
    });
    (host.await, database)
}

/// Renames a table from under the host.
fn rename(database: &Connection, from: &str, to: &str) {
    // The older way leaves everything alone that names the table.
    let sql = format!("PRAGMA legacy_alter_table = ON; ALTER TABLE {from} RENAME TO {to}");
    database.execute_batch(&sql).unwrap();
}

/// Posts messages of which each tells four events.
async fn post_many(host: &Arc<Host>, thread: &str) {
    let path = format!("/api/threads/{thread}/messages");
    let first = host
        .json("POST", &path, json!({ "content": "first" }))
        .await;
    let told = json!({ "content": "x", "reply_to_msg_id": first.body["id"],
        "metadata": { "handoff_target": "a", "stop_reason": "complete" } });
    let posters = (0..POSTERS).map(|_| {
        let (host, path, told) = (Arc::clone(host), path.clone(), told.clone());
        tokio::spawn(async move {
            for _ in 0..POSTS / POSTERS {
                let posted = host.json("POST", &path, told.clone()).await;
                assert_eq!(posted.status, 201, "{}", posted.text);
            }
        })
    });
    for poster in posters.collect::<Vec<_>>() {
        poster.await.unwrap();
    }
}

/// The number of the message that the next event tells of; none where it does not come in time.
async fn next_seq(events: &mut Subscription, time: Duration) -> Option<i64> {
    let delivery = tokio::time::timeout(time, events.next()).await.ok()?;
    let delivery = delivery.unwrap();
    let payload = delivery.envelope().payload.clone().unwrap();
    delivery.ack().await.unwrap();
    let told: Value = payload.decode().unwrap();
    told["seq"].as_i64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_hears_everything_once_and_in_order_after_the_store_could_not_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let (host, database) = host(directory.path()).await;
    let host = Arc::new(host);
    let thread = host.thread("t").await;
    // Nobody reads, so whoever publishes is held up, and falls behind the events that are kept in
    // memory.
    let new = host.bus.subscribe("chat.msg.new").capacity(1);
    let mut new = new.await.unwrap();
    post_many(&host, &thread).await;
    let database = Connection::open(database).unwrap();
    rename(&database, "events", "away");
    let mut heard = Vec::new();
    // What was on its way; the rest can be found only in the store.
    while let Some(seq) = next_seq(&mut new, Duration::from_secs(1)).await {
        heard.push(seq);
    }
    assert!(heard.len() < 100, "{} did not need the store", heard.len());
    rename(&database, "away", "events");
    while heard.last() != Some(&(POSTS + 1)) {
        let seq = next_seq(&mut new, GUARD).await;
        heard.push(seq.expect("the bus hears of conversations again"));
    }
    assert_eq!(heard, (1..=POSTS + 1).collect::<Vec<_>>());
    // And what comes from now on.
    let path = format!("/api/threads/{thread}/messages");
    host.json("POST", &path, json!({ "content": "last" })).await;
    assert_eq!(next_seq(&mut new, GUARD).await, Some(POSTS + 2));
}
