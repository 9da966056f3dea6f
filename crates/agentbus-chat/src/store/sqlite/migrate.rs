//! Brings a database to the present layout, step by step, each step whole or not at all.
//!
//! The step that a database has reached is its `user_version`, which AgentChatBus leaves at 0; so
//! its databases begin with the first step, which finds everything there. What each step was is
//! remembered with a fingerprint, so that a changed step cannot pass for one that was taken.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::secret;
use crate::store::StoreError;

/// A step: what it is called, what runs before its statements, and the statements.
struct Step {
    name: &'static str,
    before: fn(&Transaction<'_>) -> Result<(), StoreError>,
    statements: &'static str,
    after: fn(&Transaction<'_>) -> Result<(), StoreError>,
}

const STEPS: [Step; 5] = [
    Step {
        name: "agentchatbus",
        before: |_| Ok(()),
        statements: include_str!("migrations/0001_agentchatbus.sql"),
        after: complete_columns,
    },
    Step {
        name: "agentbus",
        before: prepare_old_rows,
        statements: include_str!("migrations/0002_agentbus.sql"),
        after: hash_tokens,
    },
    Step {
        name: "cards",
        before: |_| Ok(()),
        statements: include_str!("migrations/0003_cards.sql"),
        after: |_| Ok(()),
    },
    Step {
        name: "unindexed",
        before: |_| Ok(()),
        statements: include_str!("migrations/0004_unindexed.sql"),
        after: |_| Ok(()),
    },
    Step {
        name: "profiles",
        before: |_| Ok(()),
        statements: include_str!("migrations/0005_profiles.sql"),
        after: |tx| add_missing(tx, &PROFILES),
    },
];

/// The newest layout.
pub(super) const NEWEST: i64 = STEPS.len() as i64;

/// The step that a database has reached. One of something else, or of a newer release, is refused.
pub(super) fn reached(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > NEWEST {
        return Err(StoreError::Newer {
            found,
            known: NEWEST,
        });
    }
    if found == 0 {
        refuse_foreign(connection, path)?;
    }
    Ok(found)
}

/// Takes every step that a database has not taken.
pub(super) fn up(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = reached(connection, path)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS agentbus_steps (step INTEGER PRIMARY KEY, name TEXT NOT NULL, \
         fingerprint TEXT NOT NULL)",
    )?;
    for (number, step) in (1..).zip(&STEPS) {
        if number > found {
            take(connection, number, step)?;
        } else {
            check(connection, number, step)?;
        }
    }
    settle_counter(connection)
}

fn take(connection: &mut Connection, number: i64, step: &Step) -> Result<(), StoreError> {
    let tx = connection.transaction()?;
    (step.before)(&tx)?;
    tx.execute_batch(step.statements)?;
    (step.after)(&tx)?;
    tx.execute(
        "INSERT OR REPLACE INTO agentbus_steps VALUES (?1, ?2, ?3)",
        (number, step.name, secret::fingerprint(step.statements)),
    )?;
    tx.pragma_update(None, "user_version", number)?;
    Ok(tx.commit()?)
}

fn check(connection: &Connection, number: i64, step: &Step) -> Result<(), StoreError> {
    let sql = "SELECT fingerprint FROM agentbus_steps WHERE step = ?1";
    let taken: Option<String> = connection
        .query_row(sql, [number], |row| row.get(0))
        .optional()?;
    if taken == Some(secret::fingerprint(step.statements)) {
        return Ok(());
    }
    Err(StoreError::Damaged {
        reason: format!("step {number} of its layout is not the one that this version knows"),
    })
}

/// A database of something else has tables, but not those of AgentChatBus.
fn refuse_foreign(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let tables = count("SELECT count(*) FROM sqlite_master WHERE type = 'table'")?;
    let ours = count(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('threads', 'messages', 'agents')",
    )?;
    if tables == 0 || ours == 3 {
        return Ok(());
    }
    Err(StoreError::Foreign {
        path: path.to_owned(),
        reason: "it has other tables".to_owned(),
    })
}

/// Columns that releases before 0.1.8 did not have yet, and ours.
const COLUMNS: [(&str, &str, &str); 24] = [
    ("threads", "updated_at", "TEXT"),
    ("threads", "closed_at", "TEXT"),
    ("threads", "summary", "TEXT"),
    ("threads", "metadata", "TEXT"),
    ("threads", "system_prompt", "TEXT"),
    ("threads", "template_id", "TEXT"),
    ("messages", "metadata", "TEXT"),
    ("messages", "author_id", "TEXT"),
    ("messages", "author_name", "TEXT"),
    ("messages", "priority", "TEXT NOT NULL DEFAULT 'normal'"),
    ("messages", "reply_to_msg_id", "TEXT"),
    ("messages", "edited_at", "TEXT"),
    ("messages", "edit_version", "INTEGER NOT NULL DEFAULT 0"),
    ("messages", "human_only", "INTEGER NOT NULL DEFAULT 0"),
    ("messages", "stop_reason", "TEXT"),
    ("agents", "display_name", "TEXT"),
    ("agents", "alias_source", "TEXT"),
    ("agents", "last_activity", "TEXT"),
    ("agents", "last_activity_time", "TEXT"),
    ("agents", "skills", "TEXT"),
    ("thread_settings", "creator_admin_id", "TEXT"),
    ("thread_settings", "creator_admin_name", "TEXT"),
    ("thread_settings", "creator_assignment_time", "TEXT"),
    (
        "thread_settings",
        "switch_timeout_seconds",
        "INTEGER NOT NULL DEFAULT 60",
    ),
];

/// What agents and threads say about themselves in newer releases.
const PROFILES: [(&str, &str, &str); 2] = [
    ("agents", "emoji", "TEXT"),
    ("threads", "workspace", "TEXT"),
];

fn complete_columns(tx: &Transaction<'_>) -> Result<(), StoreError> {
    add_missing(tx, &COLUMNS)
}

fn add_missing(tx: &Transaction<'_>, columns: &[(&str, &str, &str)]) -> Result<(), StoreError> {
    for &(table, column, kind) in columns {
        let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
        let present: i64 = tx.query_row(sql, [table, column], |row| row.get(0))?;
        if present == 0 {
            tx.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {kind}"))?;
        }
    }
    Ok(())
}

/// Fills our columns for the rows that are there, and makes topics unique. AgentChatBus deleted all
/// but the newest thread of a topic; here the older ones get another name.
fn prepare_old_rows(tx: &Transaction<'_>) -> Result<(), StoreError> {
    for trigger in old_triggers(tx)? {
        // They fill an index that we do not read. AgentChatBus makes them anew when it starts.
        tx.execute_batch(&format!(
            "DROP TRIGGER \"{}\"",
            trigger.replace('"', "\"\"")
        ))?;
    }
    tx.execute_batch(
        "UPDATE threads SET updated_at = created_at WHERE updated_at IS NULL;
         UPDATE threads SET topic = topic || ' (' || id || ')' WHERE EXISTS (
             SELECT 1 FROM threads AS later WHERE later.topic = threads.topic
             AND (later.created_at, later.id) > (threads.created_at, threads.id));
         UPDATE messages SET stop_reason = json_extract(metadata, '$.stop_reason')
             WHERE metadata LIKE '%stop_reason%' AND json_valid(metadata);
         UPDATE messages SET human_only = 1 WHERE json_valid(metadata) AND (
             lower(trim(json_extract(metadata, '$.visibility'))) = 'human_only'
             OR lower(trim(json_extract(metadata, '$.audience'))) = 'human')",
    )?;
    Ok(())
}

fn old_triggers(tx: &Transaction<'_>) -> Result<Vec<String>, StoreError> {
    let mut found = tx.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'messages'",
    )?;
    let names = found.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn hash_tokens(tx: &Transaction<'_>) -> Result<(), StoreError> {
    let mut kept = tx.prepare("SELECT id, token FROM agents")?;
    let rows = kept.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
    for (id, token) in rows.iter().filter(|(_, token)| secret::is_plain(token)) {
        tx.execute(
            "UPDATE agents SET token = ?2 WHERE id = ?1",
            (id, secret::hashed(token)),
        )?;
    }
    Ok(())
}

/// A counter behind the messages would give numbers out twice.
fn settle_counter(connection: &Connection) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE seq_counter SET val = max(val, (SELECT coalesce(max(seq), 0) FROM messages))",
        [],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
