//! Rows of outcomes.

use super::tx::{PgTx, Result, get};
use crate::Stamp;
use crate::store::OutcomeRows;

impl OutcomeRows for PgTx<'_> {
    fn outcome(&self, key: &str) -> Result<Option<(String, String)>> {
        let sql = "SELECT fingerprint, outcome FROM outcomes WHERE key = $1";
        self.one(sql, &[&key.as_bytes()], |row| {
            Ok((get(row, 0)?, get(row, 1)?))
        })
    }

    fn put_outcome(&mut self, key: &str, fingerprint: &str, json: &str, at: Stamp) -> Result<()> {
        let sql = "INSERT INTO outcomes VALUES ($1, $2, $3, $4) ON CONFLICT (key) \
                   DO UPDATE SET fingerprint = $2, outcome = $3, at = $4";
        self.run(sql, &[&key.as_bytes(), &fingerprint, &json, &at.micros()])?;
        Ok(())
    }

    fn prune_outcomes(&mut self, before: Stamp) -> Result<usize> {
        self.run("DELETE FROM outcomes WHERE at < $1", &[&before.micros()])
    }
}
