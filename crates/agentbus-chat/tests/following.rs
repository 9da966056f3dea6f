//! Readers of events go on when the store fails for a while.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::time::Duration;

use agentbus_chat::{Chat, ChatConfig, Draft, Followed, NewAgent, NewThread, ThreadId};

/// Longest time that any step may take before the test has failed.
const GUARD: Duration = Duration::from_secs(60);

async fn post(chat: &Chat, thread: &ThreadId) {
    let draft = Draft::new(thread.clone(), "p", "x");
    chat.post(draft).await.unwrap();
}

/// Takes the events away from under the readers, and brings them back.
fn rename(database: &rusqlite::Connection, from: &str, to: &str) {
    // The older way leaves everything alone that names the table.
    let sql = format!("PRAGMA legacy_alter_table = ON; ALTER TABLE {from} RENAME TO {to}");
    database.execute_batch(&sql).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_outlasts_a_store_that_fails_and_misses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chat.db");
    let config = ChatConfig {
        rate_limit: 0,
        ..ChatConfig::default()
    };
    let chat = Chat::open(&path, config).await.unwrap();
    let agent = chat.register(NewAgent::new("IDE", "m")).await.unwrap();
    let thread = NewThread::new("t", agent.agent.id);
    let thread = chat.create_thread(thread).await.unwrap().thread.id;
    let start = chat.last_event().await.unwrap();
    for _ in 0..5 {
        post(&chat, &thread).await;
    }
    // It begins in the past, so it has to ask the store.
    let mut reader = chat.follow(Some(start), None).await.unwrap();
    let mut late = chat.follow(Some(start), None).await.unwrap();
    let database = rusqlite::Connection::open(&path).unwrap();
    rename(&database, "events", "away");
    reader.next().await.unwrap_err();
    // However long this is, there is nothing that it could answer with.
    let waited = tokio::time::timeout(Duration::from_millis(200), reader.next_patiently()).await;
    assert!(waited.is_err(), "{waited:?}");
    rename(&database, "away", "events");
    for _ in 0..2 {
        post(&chat, &thread).await;
    }
    let newest = chat.last_event().await.unwrap();
    assert!(newest >= start + 7, "{start} to {newest}");
    for expected in start + 1..=newest {
        let next = tokio::time::timeout(GUARD, reader.next_patiently()).await;
        let next = next.unwrap().unwrap();
        assert!(
            matches!(&next, Followed::Event(event) if event.id == expected),
            "{next:?} instead of {expected}"
        );
    }
    chat.close().await;
    let ended = tokio::time::timeout(GUARD, late.next_patiently()).await;
    assert_eq!(ended.unwrap(), None, "a closed store stays closed");
}
