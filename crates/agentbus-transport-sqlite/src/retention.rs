//! Forgetting what is settled and old, or settled and too much.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::group::Group;
use crate::limits;
use crate::options::{Retention, millis};

type Outcome<T> = Result<T, rusqlite::Error>;

/// What there is to forget, found at the beginning of each commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tidy {
    pub(crate) retention: Retention,
    /// The first message that a durable subscription still needs.
    pub(crate) needed: u64,
}

/// What is left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tidied {
    /// The first message that is kept.
    pub(crate) first: u64,
    /// The size and the limit, when the log is too large and nothing may be forgotten.
    pub(crate) full: Option<(u64, u64)>,
}

impl Tidy {
    /// Forgets a bounded number of messages from the beginning of the log and of keys. The newest
    /// message always stays, so that numbers go on where they were.
    pub(crate) fn run(&self, group: &Group<'_>) -> Outcome<Tidied> {
        self.forget_keys(group)?;
        let Some((first, at_ms)) = oldest(group.connection)? else {
            return Ok(Tidied {
                first: 0,
                full: None,
            });
        };
        let bytes = size(group.connection)?;
        let limit = self.retention.bytes;
        let may_go = self.needed.min(group.end.last);
        let surplus = (group.end.last - first + 1).saturating_sub(self.retention.messages);
        let mut until = first + surplus;
        if bytes > limit {
            until = until.max(first + limits::FORGET_MAX);
        } else if at_ms < self.oldest_kept(group.now_ms) {
            until = until.max(self.end_of_old(group, first)?);
        }
        let until = until.min(may_go).min(first + limits::FORGET_MAX).max(first);
        if until > first {
            group.run("DELETE FROM messages WHERE seq < ?1", params![until])?;
        }
        let full = bytes > limit && until == first;
        Ok(Tidied {
            first: until,
            full: full.then_some((bytes, limit)),
        })
    }

    fn oldest_kept(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(millis(self.retention.age))
    }

    /// The first message that is young enough, looked for among the next ones only.
    fn end_of_old(&self, group: &Group<'_>, first: u64) -> Outcome<u64> {
        let last = first + limits::FORGET_MAX;
        let sql = "SELECT seq FROM messages WHERE seq >= ?1 AND seq < ?2 AND at_ms >= ?3 ORDER BY seq LIMIT 1";
        let young = group
            .connection
            .prepare_cached(sql)?
            .query_row(
                params![first, last, self.oldest_kept(group.now_ms)],
                |row| row.get(0),
            )
            .optional()?;
        Ok(young.unwrap_or(last))
    }

    fn forget_keys(&self, group: &Group<'_>) -> Outcome<()> {
        let until = group
            .now_ms
            .saturating_sub(millis(limits::IDEMPOTENCY_WINDOW));
        let sql = "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE at_ms <= ?1 LIMIT ?2)";
        group.run(sql, params![until, limits::FORGET_MAX])
    }

    /// How long the writer may sleep before something becomes too old.
    pub(crate) fn next(&self, connection: &Connection, last: u64, now_ms: i64) -> Duration {
        let oldest = oldest(connection).ok().flatten();
        // The newest one stays, and what a subscription needs goes with some commit after it.
        let may_go = self.needed.min(last);
        let Some((_, at_ms)) = oldest.filter(|(first, _)| *first < may_go) else {
            return limits::IDLE_MAX;
        };
        let due = at_ms.saturating_add(millis(self.retention.age));
        let left = u64::try_from(due.saturating_sub(now_ms)).unwrap_or(0);
        Duration::from_millis(left).min(limits::IDLE_MAX)
    }
}

fn oldest(connection: &Connection) -> Outcome<Option<(u64, i64)>> {
    connection
        .prepare_cached("SELECT seq, at_ms FROM messages ORDER BY seq LIMIT 1")?
        .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// What is in use of the file; pages that were freed are used again.
fn size(connection: &Connection) -> Outcome<u64> {
    let number = |name: &str| {
        connection
            .prepare_cached(&format!("PRAGMA {name}"))?
            .query_row((), |row| row.get::<_, u64>(0))
    };
    let used = number("page_count")?.saturating_sub(number("freelist_count")?);
    Ok(used.saturating_mul(number("page_size")?))
}
