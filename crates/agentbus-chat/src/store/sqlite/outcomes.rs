//! Rows of outcomes.

use super::tx::{Result, SqliteTx};
use crate::Stamp;
use crate::store::OutcomeRows;

impl OutcomeRows for SqliteTx<'_> {
    fn outcome(&self, key: &str) -> Result<Option<(String, String)>> {
        let sql = "SELECT fingerprint, outcome FROM outcomes WHERE key = ?1";
        self.one(sql, [key], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    fn put_outcome(&mut self, key: &str, fingerprint: &str, json: &str, at: Stamp) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO outcomes VALUES (?1, ?2, ?3, ?4)";
        self.run(sql, [key, fingerprint, json, &at.to_string()])?;
        Ok(())
    }

    fn prune_outcomes(&mut self, before: Stamp) -> Result<usize> {
        self.run("DELETE FROM outcomes WHERE at < ?1", [before.to_string()])
    }
}
