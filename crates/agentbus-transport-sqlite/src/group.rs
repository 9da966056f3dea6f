//! One group of operations within one transaction.

use std::path::Path;

use agentbus_transport::TransportError;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::cursors::{Cursors, LANES};
use crate::error::explain;
use crate::limits;
use crate::options::millis;
use crate::queue::{Append, Create, Op, Work};
use crate::record::Record;

/// The end of the log: where the next message goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// The number of the newest message.
    pub(crate) last: u64,
    /// Its time. Times never descend, whatever the clock does, so that the log can be searched by
    /// them.
    pub(crate) at_ms: i64,
}

/// What became of an operation, once its group is committed.
#[derive(Debug)]
pub(crate) enum Applied {
    Stored {
        seq: u64,
        duplicate: bool,
    },
    Worked {
        letters: Vec<u64>,
    },
    Created {
        consumer: i64,
        cursors: Cursors,
    },
    Removed,
    /// Refused by itself; the rest of the group goes on.
    Refused(TransportError),
}

/// A transaction that is being filled.
pub(crate) struct Group<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) end: End,
    /// The size of the log and the largest allowed, once that is reached.
    pub(crate) full: Option<(u64, u64)>,
    pub(crate) now_ms: i64,
}

type Outcome<T> = Result<T, rusqlite::Error>;

impl Group<'_> {
    pub(crate) fn apply(&mut self, op: &Op) -> Outcome<Applied> {
        match op {
            Op::Append(append) => self.publish(append),
            Op::Work(work) => self.work(work),
            Op::Create(create) => self.create(create),
            Op::Remove(remove) => {
                let id = remove.consumer;
                self.run("DELETE FROM unsettled WHERE consumer = ?1", params![id])?;
                self.run("DELETE FROM consumers WHERE id = ?1", params![id])?;
                Ok(Applied::Removed)
            }
        }
    }

    fn publish(&mut self, append: &Append) -> Outcome<Applied> {
        let key = append.options.idempotency_key.as_deref();
        if let Some(key) = key
            && let Some(seq) = self.known(key)?
        {
            let duplicate = true;
            return Ok(Applied::Stored { seq, duplicate });
        }
        if let Some((bytes, limit)) = self.full {
            return Ok(Applied::Refused(TransportError::LogFull { bytes, limit }));
        }
        let seq = self.append(&append.record)?;
        if let Some(key) = key {
            self.run(
                "INSERT OR REPLACE INTO keys (key, seq, at_ms) VALUES (?1, ?2, ?3)",
                params![key, seq, self.end.at_ms],
            )?;
        }
        let duplicate = false;
        Ok(Applied::Stored { seq, duplicate })
    }

    /// The message that was published under a key, as long as the key is remembered.
    fn known(&self, key: &str) -> Outcome<Option<u64>> {
        let since = self
            .now_ms
            .saturating_sub(millis(limits::IDEMPOTENCY_WINDOW));
        self.connection
            .prepare_cached("SELECT seq FROM keys WHERE key = ?1 AND at_ms > ?2")?
            .query_row(params![key, since], |row| row.get(0))
            .optional()
    }

    fn append(&mut self, record: &Record) -> Outcome<u64> {
        let seq = self.end.last + 1;
        self.end.at_ms = self.end.at_ms.max(self.now_ms);
        self.run(
            "INSERT INTO messages (seq, at_ms, priority, expires_ms, checksum, subject, envelope)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                seq,
                self.end.at_ms,
                record.message.priority.number(),
                record.expires_ms,
                record.checksum,
                record.message.subject.as_str(),
                record.envelope,
            ],
        )?;
        self.end.last = seq;
        Ok(seq)
    }

    fn work(&mut self, work: &Work) -> Outcome<Applied> {
        let id = work.consumer;
        if let Some(cursors) = &work.cursors {
            self.move_cursors(id, cursors)?;
        }
        for seq in &work.claimed {
            let sql = "INSERT INTO unsettled (consumer, seq, attempt) VALUES (?1, ?2, 1)";
            self.run(sql, params![id, seq])?;
        }
        for (seq, attempt) in &work.attempts {
            let sql =
                "UPDATE unsettled SET attempt = ?3, due_ms = NULL WHERE consumer = ?1 AND seq = ?2";
            self.run(sql, params![id, seq, attempt])?;
        }
        for (seq, due_ms) in &work.delayed {
            let sql = "UPDATE unsettled SET due_ms = ?3 WHERE consumer = ?1 AND seq = ?2";
            self.run(sql, params![id, seq, due_ms])?;
        }
        for seq in &work.settled {
            let sql = "DELETE FROM unsettled WHERE consumer = ?1 AND seq = ?2";
            self.run(sql, params![id, seq])?;
        }
        // Written even when the log is full: a letter takes the place of a message that may be
        // forgotten after it, and without it the subscription could not go on.
        let letters = work.letters.iter().map(|letter| self.append(letter));
        let letters = letters.collect::<Outcome<_>>()?;
        Ok(Applied::Worked { letters })
    }

    fn move_cursors(&self, consumer: i64, cursors: &Cursors) -> Outcome<()> {
        let [c0, c1, c2, c3, c4, c5] = cursors.0;
        self.run(
            "UPDATE consumers SET lane0 = ?2, lane1 = ?3, lane2 = ?4, lane3 = ?5, lane4 = ?6, lane5 = ?7
             WHERE id = ?1",
            params![consumer, c0, c1, c2, c3, c4, c5],
        )
    }

    fn create(&mut self, create: &Create) -> Outcome<Applied> {
        // Written by somebody who did not wait for the answer.
        if let Some((consumer, cursors)) = self.find(&create.name)? {
            return Ok(Applied::Created { consumer, cursors });
        }
        let cursors = create.cursors.unwrap_or(Cursors::at(self.end.last));
        let [c0, c1, c2, c3, c4, c5] = cursors.0;
        self.run(
            "INSERT INTO consumers (name, members, pattern, lane0, lane1, lane2, lane3, lane4, lane5)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                create.name.as_str(),
                create.group.as_deref(),
                create.pattern.as_str(),
                c0,
                c1,
                c2,
                c3,
                c4,
                c5
            ],
        )?;
        let consumer = self.connection.last_insert_rowid();
        Ok(Applied::Created { consumer, cursors })
    }

    fn find(&self, name: &str) -> Outcome<Option<(i64, Cursors)>> {
        let sql =
            "SELECT id, lane0, lane1, lane2, lane3, lane4, lane5 FROM consumers WHERE name = ?1";
        self.connection
            .prepare_cached(sql)?
            .query_row([name], |row| Ok((row.get(0)?, lanes(row, 1)?)))
            .optional()
    }

    pub(crate) fn run(&self, sql: &str, values: impl rusqlite::Params) -> Outcome<()> {
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

/// Reads the cursors that begin at a column.
pub(crate) fn lanes(row: &Row<'_>, from: usize) -> Outcome<Cursors> {
    let mut cursors = Cursors::at(0);
    for lane in 0..LANES {
        cursors.advance(lane, row.get(from + lane)?);
    }
    Ok(cursors)
}

/// The end of a log that is being opened.
pub(crate) fn end_of(path: &Path, connection: &Connection) -> Result<End, TransportError> {
    let newest = "SELECT seq, at_ms FROM messages ORDER BY seq DESC LIMIT 1";
    let read = connection
        .query_row(newest, (), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional();
    let (last, at_ms) = read
        .map_err(|error| explain(path, &error))?
        .unwrap_or_default();
    Ok(End { last, at_ms })
}
