//! Counting for operators. Only the last minutes are read row by row.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::tx::{Result, SqliteTx, count, stamp};
use crate::Stamp;
use crate::store::Figures;

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn all(tx: &SqliteTx<'_>, now: Stamp) -> Result<Figures> {
    let grouped = |sql: &str| -> Result<BTreeMap<String, usize>> {
        let rows = tx.all(sql, [], |row| Ok((row.get(0)?, count(row.get(1)?))))?;
        Ok(rows.into_iter().collect())
    };
    let mut figures = Figures {
        threads: grouped("SELECT status, count(*) FROM threads GROUP BY status")?,
        messages: count(tx.value("SELECT count(*) FROM messages", [])?),
        stop_reasons: grouped(
            "SELECT stop_reason, count(*) FROM messages WHERE stop_reason IS NOT NULL \
             GROUP BY stop_reason",
        )?,
        ..Figures::default()
    };
    recent(tx, now, &mut figures)?;
    Ok(figures)
}

/// Walks back from the newest message until it is older than a quarter of an hour.
fn recent(tx: &SqliteTx<'_>, now: Stamp, figures: &mut Figures) -> Result<()> {
    let windows = [MINUTE, 5 * MINUTE, 15 * MINUTE];
    let oldest = now.before(15 * MINUTE);
    let mut statement =
        tx.prepare("SELECT created_at, thread_id FROM messages ORDER BY seq DESC")?;
    let mut rows = statement.query([])?;
    let mut later: HashMap<String, Stamp> = HashMap::new();
    let (mut gaps, mut gaps_ms) = (0_u32, 0.0);
    while let Some(row) = rows.next()? {
        let at = stamp(row, 0)?;
        if at <= oldest {
            break;
        }
        for (count, window) in figures.recent.iter_mut().zip(windows) {
            *count += usize::from(now.since(at) < window);
        }
        if let Some(next) = later.insert(row.get(1)?, at) {
            gaps += 1;
            gaps_ms += next.since(at).as_secs_f64() * 1000.0;
        }
    }
    figures.mean_gap_ms = (gaps > 0).then(|| gaps_ms / f64::from(gaps));
    Ok(())
}
