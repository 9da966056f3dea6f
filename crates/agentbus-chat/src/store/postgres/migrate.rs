//! Brings a database to the present layout, step by step, each step whole or not at all.
//!
//! What each step was is remembered with a fingerprint, so that a changed step cannot pass for one
//! that was taken. Nodes that start together take turns.

use postgres::Row;

use super::connection::Connection;
use super::tx::Result;
use crate::secret;
use crate::store::StoreError;

const STEPS: [(&str, &str); 3] = [
    (
        "conversations",
        include_str!("migrations/0001_conversations.sql"),
    ),
    ("cards", include_str!("migrations/0002_cards.sql")),
    ("profiles", include_str!("migrations/0003_profiles.sql")),
];

/// Asks for the steps that were taken.
pub(super) const TAKEN: &str = "SELECT fingerprint FROM agentbus_steps ORDER BY step";

/// Held while steps are taken. The number only has to be the same in every node.
const TURN: &str = "SELECT pg_advisory_xact_lock(7340032)";

/// Takes every step that a database has not taken.
pub(super) fn up(connection: &mut Connection) -> Result<()> {
    let mut tx = connection.client.transaction()?;
    tx.batch_execute(TURN)?;
    let encoding: String = tx.query_one("SHOW server_encoding", &[])?.try_get(0)?;
    if encoding != "UTF8" {
        let text = format!("the database is encoded as {encoding}; make one with ENCODING 'UTF8'");
        return Err(StoreError::Failed(text));
    }
    tx.batch_execute(
        "CREATE TABLE IF NOT EXISTS agentbus_steps (step INT PRIMARY KEY, name TEXT NOT NULL, \
         fingerprint TEXT NOT NULL)",
    )?;
    let taken = taken(&tx.query(TAKEN, &[])?)?;
    for (number, (name, statements)) in (1_i32..).zip(STEPS).skip(taken) {
        tx.batch_execute(statements)?;
        let sql = "INSERT INTO agentbus_steps VALUES ($1, $2, $3)";
        tx.execute(sql, &[&number, &name, &secret::fingerprint(statements)])?;
    }
    // A counter behind the messages would give numbers out twice.
    tx.batch_execute(
        "UPDATE counters SET seq = greatest(seq, (SELECT coalesce(max(seq), 0) FROM messages)), \
         event = greatest(event, (SELECT coalesce(max(id), 0) FROM events))",
    )?;
    Ok(tx.commit()?)
}

/// How many steps there are.
pub(super) const fn known() -> usize {
    STEPS.len()
}

/// How many steps a database has taken, which have to be those that are known.
pub(super) fn taken(rows: &[Row]) -> Result<usize> {
    if rows.len() > STEPS.len() {
        return Err(StoreError::Newer {
            found: rows.len() as i64,
            known: STEPS.len() as i64,
        });
    }
    for (number, (row, (_, statements))) in (1..).zip(rows.iter().zip(STEPS)) {
        if row.try_get::<_, String>(0)? != secret::fingerprint(statements) {
            return Err(StoreError::Damaged {
                reason: format!(
                    "step {number} of its layout is not the one that this version knows"
                ),
            });
        }
    }
    Ok(rows.len())
}
