//! Databases of AgentChatBus, of strangers, and of the future.

use rusqlite::Connection;

use super::*;
use crate::store::sqlite::tx::SqliteTx;
use crate::store::{AgentRows, MessageQuery, MessageRows, SearchRows, ThreadRows};

/// A database as AgentChatBus 0.1.8 leaves it, with what its releases did wrong.
fn old() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(include_str!("../migrations/0001_agentchatbus.sql"))
        .unwrap();
    connection
        .execute_batch(
            "CREATE VIRTUAL TABLE messages_fts USING fts5 (message_id UNINDEXED, \
                 thread_id UNINDEXED, author UNINDEXED, content);
             CREATE TRIGGER old_index AFTER INSERT ON messages BEGIN
                 INSERT INTO messages_fts VALUES (new.id, new.thread_id, new.author, new.content);
             END;
             INSERT INTO threads (id, topic, created_at) VALUES
                 ('t1', 'plans', '2026-01-01T00:00:00+00:00'),
                 ('t2', 'plans', '2026-01-02T00:00:00+00:00');
             INSERT INTO agents (id, name, registered_at, last_heartbeat, token) VALUES
                 ('a1', 'IDE (m)', '2026-01-01T00:00:00+00:00',
                  '2026-01-01T00:00:00.5+00:00+00:00', 'plain secret');
             INSERT INTO messages (id, thread_id, author, author_id, content, seq, created_at, metadata)
                 VALUES ('m1', 't1', 'IDE (m)', 'a1', 'hello 世界', 7, '2026-01-01T00:00:01+00:00', NULL),
                 ('m2', 't1', 'system', 'system', 'card', 8, '2026-01-01T00:00:02+00:00',
                  '{\"visibility\": \"human_only\"}'),
                 ('m3', 't1', 'IDE (m)', 'a1', 'bye', 9, '2026-01-01T00:00:03+00:00',
                  '{\"stop_reason\": \"complete\"}');",
        )
        .unwrap();
    connection
}

fn path() -> &'static Path {
    Path::new("test.db")
}

#[test]
fn an_old_database_is_taken_over_as_it_is() {
    let mut connection = old();
    up(&mut connection, path()).unwrap();
    up(&mut connection, path()).unwrap();
    let mut tx = SqliteTx::new(&connection);
    let messages = tx.messages(&"t1".into(), &MessageQuery::default()).unwrap();
    let seqs: Vec<_> = messages
        .iter()
        .map(|message| (message.seq, message.human_only))
        .collect();
    assert_eq!(
        seqs,
        [(7, false), (8, true), (9, false)],
        "numbers stay what they were"
    );
    assert_eq!(tx.next_seq().unwrap(), 10, "and are not given out again");
    assert_eq!(tx.participants(&"t1".into()).unwrap(), ["a1".into()]);
    assert_eq!(
        tx.agents().unwrap().len(),
        1,
        "a time with its offset twice can be read"
    );
    let token = tx.agent_token(&"a1".into()).unwrap().unwrap();
    assert!(!token.contains("plain") && secret::fits(&token, "plain secret"));
    assert_eq!(
        tx.thread(&"t1".into()).unwrap().unwrap().topic,
        "plans (t1)"
    );
    assert_eq!(tx.thread(&"t2".into()).unwrap().unwrap().topic, "plans");
    assert_eq!(tx.check_search().unwrap(), None);
    for text in ["hello", "世界"] {
        let query = crate::model::SearchQuery {
            text: text.into(),
            limit: 5,
            ..Default::default()
        };
        assert_eq!(tx.search(&query).unwrap().hits.len(), 1, "{text}");
    }
}

#[test]
fn what_a_newer_release_knows_of_agents_and_threads_is_kept() {
    let mut connection = old();
    connection
        .execute_batch(
            "ALTER TABLE agents ADD COLUMN emoji TEXT;
             UPDATE agents SET emoji = '🦕';",
        )
        .unwrap();
    up(&mut connection, path()).unwrap();
    let tx = SqliteTx::new(&connection);
    let agent = tx.agent(&"a1".into()).unwrap().unwrap();
    assert_eq!(agent.emoji(), "🦕");
    let thread = tx.thread(&"t1".into()).unwrap().unwrap();
    assert_eq!(thread.workspace, None);
}

#[test]
fn a_database_of_something_else_is_refused() {
    let mut connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch("CREATE TABLE invoices (id)")
        .unwrap();
    let refused = up(&mut connection, path());
    assert!(
        matches!(refused, Err(StoreError::Foreign { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_database_from_the_future_is_refused() {
    let mut connection = Connection::open_in_memory().unwrap();
    up(&mut connection, path()).unwrap();
    connection
        .pragma_update(None, "user_version", NEWEST + 1)
        .unwrap();
    let refused = up(&mut connection, path());
    assert!(
        matches!(refused, Err(StoreError::Newer { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_step_that_was_changed_is_noticed() {
    let mut connection = Connection::open_in_memory().unwrap();
    up(&mut connection, path()).unwrap();
    connection
        .execute_batch("UPDATE agentbus_steps SET fingerprint = 'x' WHERE step = 2")
        .unwrap();
    let refused = up(&mut connection, path());
    assert!(
        matches!(refused, Err(StoreError::Damaged { .. })),
        "{refused:?}"
    );
}
