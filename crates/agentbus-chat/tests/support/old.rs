//! A database of AgentChatBus 0.1.8.

use std::path::Path;

use rusqlite::Connection;

/// Writes a database as AgentChatBus 0.1.8 leaves it.
pub(crate) fn write_old(path: &Path, messages: i64) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(include_str!(
            "../../src/store/sqlite/migrations/0001_agentchatbus.sql"
        ))
        .unwrap();
    connection
        .execute_batch(
            "INSERT INTO threads (id, topic, created_at, status) VALUES
                 ('t1', 'plans', '2026-01-01T00:00:00+00:00', 'archived');
             INSERT INTO thread_settings (thread_id, timeout_seconds, created_at, updated_at,
                 creator_admin_id) VALUES ('t1', 90, '2026-01-01T00:00:00+00:00',
                 '2026-01-01T00:00:00+00:00', 'a1');
             INSERT INTO agents (id, name, registered_at, last_heartbeat, token) VALUES
                 ('a1', 'IDE (m)', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', 'secret');",
        )
        .unwrap();
    for n in 1..=messages {
        let sql = "INSERT INTO messages (id, thread_id, author, content, seq, created_at, \
                   edit_version) VALUES (?1, 't1', 'IDE (m)', 'text', ?2, \
                   '2026-01-01T00:00:01+00:00', ?3)";
        // Gaps were legal, and stay.
        connection
            .execute(sql, (format!("m{n}"), 2 * n, n == 1))
            .unwrap();
    }
    connection
        .execute_batch(
            "INSERT INTO message_edits VALUES ('e1', 'm1', 'before', 'IDE (m)', 1,
                 '2026-01-01T00:00:02+00:00');
             INSERT INTO reactions VALUES ('r1', 'm2', 'a1', 'IDE (m)', 'agree',
                 '2026-01-01T00:00:02+00:00');
             UPDATE seq_counter SET val = 6000;",
        )
        .unwrap();
}
