//! Counting for operators.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tx::{PgTx, Result, get};
use crate::Stamp;
use crate::store::Figures;

const MINUTE: Duration = Duration::from_secs(60);

/// The distance between neighbours in a thread, over the messages of the last quarter of an hour.
const RECENT: &str = "SELECT count(*) FILTER (WHERE created_at > $1), \
     count(*) FILTER (WHERE created_at > $2), count(*), (avg(greatest(gap, 0)) / 1000)::float8 \
     FROM (SELECT created_at, created_at - lag(created_at) \
         OVER (PARTITION BY thread_id ORDER BY seq) AS gap FROM messages WHERE created_at > $3) \
     AS recent";

pub(super) fn all(tx: &PgTx<'_>, now: Stamp) -> Result<Figures> {
    let grouped = |sql: &str| -> Result<BTreeMap<String, usize>> {
        let rows = tx.all(sql, &[], |row| Ok((get(row, 0)?, count(get(row, 1)?))))?;
        Ok(rows.into_iter().collect())
    };
    let [one, five, fifteen] = [1, 5, 15].map(|n| now.before(n * MINUTE).micros());
    let recent = tx.one(RECENT, &[&one, &five, &fifteen], |row| {
        let counts = [get(row, 0)?, get(row, 1)?, get(row, 2)?].map(count);
        Ok((counts, get(row, 3)?))
    })?;
    let (recent, mean_gap_ms) = recent.unwrap_or_default();
    Ok(Figures {
        threads: grouped("SELECT status, count(*) FROM threads GROUP BY status")?,
        messages: tx.count("SELECT count(*) FROM messages", &[])?,
        recent,
        mean_gap_ms,
        stop_reasons: grouped(
            "SELECT stop_reason, count(*) FROM messages WHERE stop_reason IS NOT NULL \
             GROUP BY stop_reason",
        )?,
    })
}

fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
