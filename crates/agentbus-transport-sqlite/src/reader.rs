//! Reading the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentbus_protocol::Pattern;
use agentbus_transport::{Message, Priority, TransportError};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::cursors::{Cursors, LANES, priority_of};
use crate::error::{carrier, explain};
use crate::limits;
use crate::options::Clock;
use crate::record::{COLUMNS, Stored};
use crate::schema::LETTERS;

/// Connections for reading, opened when they are needed and used again.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    places: Semaphore,
    tasks: TaskTracker,
}

/// What a subscription gets next.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Matching messages, the highest lane first.
    pub(crate) messages: Vec<(u64, Arc<Message>)>,
    /// Where the subscription is after them.
    pub(crate) cursors: Cursors,
    /// Whether there may be more that a next read finds.
    pub(crate) more: bool,
    /// Matching messages that could not be read any more.
    pub(crate) damaged: u64,
}

impl Fetched {
    /// Takes up to `max` of what was found in each lane, where nothing was left out unless a lane
    /// holds more than `max`.
    pub(crate) fn of_lanes(
        mut cursors: Cursors,
        lanes: [Vec<(u64, Arc<Message>)>; LANES],
        max: usize,
        upto: u64,
    ) -> Self {
        let mut messages = Vec::new();
        let mut more = false;
        for (lane, found) in lanes.into_iter().enumerate() {
            let room = max - messages.len();
            if found.len() <= room {
                cursors.advance(lane, upto);
            } else {
                more = true;
                // Up to the first that stays behind there is nothing for this subscription.
                cursors.advance(lane, found[room].0 - 1);
            }
            messages.extend(found.into_iter().take(room));
        }
        Self {
            messages,
            cursors,
            more,
            damaged: 0,
        }
    }
}

impl Readers {
    pub(crate) fn new(path: &Path, tasks: TaskTracker) -> Self {
        Self {
            path: path.to_owned(),
            idle: Mutex::default(),
            places: Semaphore::new(limits::READERS_MAX),
            tasks,
        }
    }

    /// Runs a query on a connection of its own, beside the runtime.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, TransportError> {
        let Ok(_place) = self.places.acquire().await else {
            return Err(TransportError::Closed);
        };
        let readers = Arc::clone(self);
        let reading = self.tasks.spawn_blocking(move || readers.run(query));
        reading.await.map_err(|error| carrier(error.to_string()))?
    }

    fn run<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, TransportError> {
        let failed = |error| explain(&self.path, &error);
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => crate::schema::open_reader(&self.path).map_err(failed)?,
        };
        // A connection that failed is not used again.
        let read = query(&connection).map_err(failed)?;
        self.idle.lock().push(connection);
        Ok(read)
    }

    /// Closes what is open; nobody reads any more.
    pub(crate) fn close(&self) {
        self.places.close();
        self.idle.lock().clear();
    }
}

/// What is asked of the log for one subscription.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) cursors: Cursors,
    pub(crate) pattern: Pattern,
    pub(crate) max: usize,
    pub(crate) upto: u64,
}

/// Reads what a subscription gets next from the disk.
pub(crate) fn fetch(
    connection: &Connection,
    wanted: &Wanted,
    clock: &Clock,
) -> Result<Fetched, rusqlite::Error> {
    let mut fetched = Fetched {
        messages: Vec::new(),
        cursors: wanted.cursors,
        more: false,
        damaged: 0,
    };
    let mut scan = Scan {
        wanted,
        now_ms: clock.now_ms(),
        left: limits::SCAN_MAX,
    };
    for lane in 0..LANES {
        scan.lane(connection, lane, &mut fetched)?;
    }
    Ok(fetched)
}

struct Scan<'a> {
    wanted: &'a Wanted,
    now_ms: i64,
    /// Rows that may still be looked at.
    left: usize,
}

impl Scan<'_> {
    fn lane(
        &mut self,
        connection: &Connection,
        lane: usize,
        fetched: &mut Fetched,
    ) -> Result<(), rusqlite::Error> {
        let mut statement = connection.prepare_cached(&of_lane(lane, &self.wanted.pattern))?;
        let from = fetched.cursors.of(lane);
        let priority = priority_of(lane).number();
        let mut rows = statement.query((from, self.wanted.upto, priority))?;
        while let Some(row) = rows.next()? {
            let (seq, subject): (u64, String) = (row.get(0)?, row.get(5)?);
            if !self.wanted.pattern.matches(&subject) {
                if self.left == 0 {
                    fetched.more = true;
                    return Ok(());
                }
                self.left -= 1;
                fetched.cursors.advance(lane, seq);
                continue;
            }
            if fetched.messages.len() >= self.wanted.max {
                fetched.more = true;
                return Ok(());
            }
            match Stored::read(row)?.into_message(self.now_ms) {
                Some(message) => fetched.messages.push((seq, message)),
                None => fetched.damaged += 1,
            }
            fetched.cursors.advance(lane, seq);
        }
        fetched.cursors.advance(lane, self.wanted.upto);
        Ok(())
    }
}

/// Selects the rows of one lane between two numbers. Normal messages are the bulk of the log, so the
/// other lanes have an index and they do not. Dead letters have one of their own: a pattern with
/// their part of the subject matches no subject without it, because a wildcard stands for whole
/// tokens.
fn of_lane(lane: usize, pattern: &Pattern) -> String {
    if pattern.as_str().contains(LETTERS) {
        format!(
            "SELECT {COLUMNS} FROM messages INDEXED BY letters
             WHERE instr(subject, '{LETTERS}') > 0 AND priority = ?3 AND seq > ?1 AND seq <= ?2 ORDER BY seq"
        )
    } else if lane == Priority::Normal.lane() {
        format!(
            "SELECT {COLUMNS} FROM messages NOT INDEXED
             WHERE seq > ?1 AND seq <= ?2 AND priority = ?3 ORDER BY seq"
        )
    } else {
        format!(
            "SELECT {COLUMNS} FROM messages INDEXED BY lanes
             WHERE priority <> 5 AND priority = ?3 AND seq > ?1 AND seq <= ?2 ORDER BY seq"
        )
    }
}

/// The number before the first message at or after a time. Times never descend along the log,
/// because the writer sees to it, so the log is searched by halves and needs no index on them.
pub(crate) fn before_time(connection: &Connection, at_ms: i64) -> Result<u64, rusqlite::Error> {
    let (first, last): (Option<u64>, Option<u64>) =
        connection.query_row("SELECT min(seq), max(seq) FROM messages", (), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(0);
    };
    let mut time_of = connection.prepare("SELECT at_ms FROM messages WHERE seq = ?1")?;
    // Everything below `low` is too early, everything from `high` on is not.
    let (mut low, mut high) = (first, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let time: i64 = time_of.query_row([middle], |row| row.get(0))?;
        if time < at_ms {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low - 1)
}

#[cfg(test)]
mod tests;
