//! The one writer of the log: a thread that takes what waits and commits it as a group.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agentbus::Payload;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Heads, Key, Kind};
use crate::limits::{LOG_FLOOD, LOG_GROUP, LOG_LINGER, SESSION_BYTES, SESSIONS_KEPT};

/// Adds an entry; its values are those of [`insert`].
const INSERT: &str = "INSERT INTO entries (session, offset, kind, data) VALUES (?1, ?2, ?3, ?4)";

/// What the writer is given, in the order in which it does it.
pub(super) enum Job {
    /// Write an entry.
    Entry(NewEntry),
    /// Do something else with the file, once everything before it is written.
    Order(Order),
    /// End.
    Last,
}

/// A change that is no entry; it answers by itself.
pub(super) type Order = Box<dyn FnOnce(&mut Connection, &Heads) + Send>;

/// One entry on its way.
pub(super) struct NewEntry {
    pub(super) key: Arc<Key>,
    pub(super) kind: Kind,
    pub(super) data: Payload,
    pub(super) agent_session: Option<String>,
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

pub(super) struct Writer {
    connection: Connection,
    heads: Arc<Heads>,
    /// Whether entries come faster than they are worth a commit each.
    flooded: bool,
    /// Entries of each session that could not be written; told with the next one that can.
    lost: HashMap<String, u64>,
}

/// Where a session stands within a group.
struct Session {
    number: i64,
    first: u64,
    last: u64,
    bytes: u64,
    agent_session: Option<String>,
}

impl Writer {
    pub(super) fn new(connection: Connection, heads: Arc<Heads>) -> Self {
        Self {
            connection,
            heads,
            flooded: false,
            lost: HashMap::new(),
        }
    }

    /// Does one job after the other until the last, or until nobody can send one.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut held = None;
        while let Some(job) = held.take().or_else(|| waiting.blocking_recv()) {
            match job {
                Job::Entry(entry) => held = self.write(entry, &mut waiting),
                Job::Order(order) => order(&mut self.connection, &self.heads),
                Job::Last => break,
            }
        }
        self.heads.lock().clear();
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the log of sessions was not closed in order");
        }
    }

    /// Commits an entry with those that wait behind it, and returns the job that is none.
    fn write(&mut self, first: NewEntry, waiting: &mut mpsc::Receiver<Job>) -> Option<Job> {
        if self.flooded && waiting.len() < LOG_GROUP {
            std::thread::sleep(LOG_LINGER);
        }
        let mut group = vec![first];
        let mut next = None;
        while group.len() < LOG_GROUP {
            match waiting.try_recv() {
                Ok(Job::Entry(entry)) => group.push(entry),
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.flooded = group.len() >= LOG_FLOOD;
        match self.commit(&group) {
            Ok(touched) => {
                // Those of other sessions are told with their own next entry.
                for (id, _) in &touched {
                    self.lost.remove(id);
                }
                self.wake(&touched);
            }
            Err(error) => self.lose(&group, &error),
        }
        next
    }

    /// Writes a group, or nothing of it.
    fn commit(&mut self, group: &[NewEntry]) -> rusqlite::Result<Vec<(String, u64)>> {
        let now = now_ms();
        let transaction = self.connection.transaction()?;
        let mut entries = transaction.prepare_cached(INSERT)?;
        let mut sessions = HashMap::new();
        for job in group {
            let session = match sessions.entry(&*job.key) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let mut session = enter(&transaction, &job.key, now)?;
                    if let Some(count) = self.lost.get(&job.key.id()) {
                        let told = format!("{{\"count\":{count}}}");
                        insert(&mut entries, &mut session, Kind::Lost, &told)?;
                    }
                    new.insert(session)
                }
            };
            insert(&mut entries, session, job.kind, job.data.as_str())?;
            if job.agent_session.is_some() {
                session.agent_session.clone_from(&job.agent_session);
            }
        }
        for session in sessions.values_mut() {
            trim(&transaction, session)?;
            update(&transaction, session, now)?;
        }
        drop(entries);
        transaction.commit()?;
        let heads = sessions.into_iter();
        Ok(heads
            .map(|(key, session)| (key.id(), session.last))
            .collect())
    }

    fn wake(&self, touched: &[(String, u64)]) {
        let mut heads = self.heads.lock();
        for (id, last) in touched {
            if let Some(head) = heads.get(id) {
                head.send_replace(*last);
            }
        }
        heads.retain(|_, head| head.receiver_count() > 0);
    }

    fn lose(&mut self, group: &[NewEntry], error: &rusqlite::Error) {
        tracing::error!(%error, entries = group.len(), "entries of sessions could not be written");
        for job in group {
            // As many names as sessions are kept; more are not worth remembering.
            if self.lost.len() < SESSIONS_KEPT {
                *self.lost.entry(job.key.id()).or_default() += 1;
            }
        }
    }
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or(Duration::ZERO).as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// Adds an entry to each session whose last turn has no end, and returns how many there were.
pub(super) fn end_cut_turns(connection: &mut Connection, end: &str) -> rusqlite::Result<usize> {
    let now = now_ms();
    let transaction = connection.transaction()?;
    let mut cut = 0;
    for mut session in all(&transaction)? {
        // From the back: the end of a turn is the last entry, or nearly.
        let mut last = transaction.prepare_cached(
            "SELECT kind FROM entries WHERE session = ?1 AND kind IN (?2, ?3)
             ORDER BY offset DESC LIMIT 1",
        )?;
        let (prompt, ended) = (Kind::Prompt.number(), Kind::Ended.number());
        let last = last.query_row(params![session.number, prompt, ended], |row| row.get(0));
        if last.optional()? == Some(prompt) {
            let mut entries = transaction.prepare_cached(INSERT)?;
            insert(&mut entries, &mut session, Kind::Ended, end)?;
            update(&transaction, &session, now)?;
            cut += 1;
        }
    }
    transaction.commit()?;
    Ok(cut)
}

fn all(connection: &Connection) -> rusqlite::Result<Vec<Session>> {
    let mut all = connection
        .prepare_cached("SELECT number, first, last, bytes, agent_session FROM sessions")?;
    all.query_map((), read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        number: row.get(0)?,
        first: row.get(1)?,
        last: row.get(2)?,
        bytes: row.get(3)?,
        agent_session: row.get(4)?,
    })
}

/// Finds the session of a key, or begins it.
fn enter(connection: &Connection, key: &Key, now: u64) -> rusqlite::Result<Session> {
    let id = key.id();
    let mut find = connection.prepare_cached(
        "SELECT number, first, last, bytes, agent_session FROM sessions WHERE id = ?1",
    )?;
    if let Some(found) = find.query_row([&id], read).optional()? {
        // Now, so that a new session of the same group does not take its place.
        let mut touch =
            connection.prepare_cached("UPDATE sessions SET touched_ms = ?2 WHERE number = ?1")?;
        touch.execute(params![found.number, now])?;
        return Ok(found);
    }
    make_room(connection)?;
    let mut add = connection.prepare_cached(
        "INSERT INTO sessions (id, agent, session, created_ms, touched_ms, first, last, bytes)
         VALUES (?1, ?2, ?3, ?4, ?4, 1, 0, 0)",
    )?;
    let number = add.insert(params![id, key.agent, key.session, now])?;
    Ok(Session {
        number,
        first: 1,
        last: 0,
        bytes: 0,
        agent_session: None,
    })
}

/// Forgets the sessions that were not used for the longest, so that one more can be kept.
fn make_room(connection: &Connection) -> rusqlite::Result<()> {
    let count: usize = connection
        .prepare_cached("SELECT count(*) FROM sessions")?
        .query_row((), |row| row.get(0))?;
    for _ in SESSIONS_KEPT..=count {
        let oldest: i64 = connection
            .prepare_cached("SELECT number FROM sessions ORDER BY touched_ms LIMIT 1")?
            .query_row((), |row| row.get(0))?;
        for sql in [
            "DELETE FROM entries WHERE session = ?1",
            "DELETE FROM sessions WHERE number = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([oldest])?;
        }
    }
    Ok(())
}

fn insert(
    entries: &mut Statement<'_>,
    session: &mut Session,
    kind: Kind,
    data: &str,
) -> rusqlite::Result<()> {
    entries.execute(params![
        session.number,
        session.last + 1,
        kind.number(),
        data
    ])?;
    session.last += 1;
    session.bytes += data.len() as u64;
    Ok(())
}

/// Forgets the older half of a session that has become too large: rarely, and then for long.
fn trim(connection: &Connection, session: &mut Session) -> rusqlite::Result<()> {
    if session.bytes <= SESSION_BYTES {
        return Ok(());
    }
    let first = session.first + (session.last - session.first).div_ceil(2);
    let mut delete =
        connection.prepare_cached("DELETE FROM entries WHERE session = ?1 AND offset < ?2")?;
    delete.execute(params![session.number, first])?;
    let mut sum = connection.prepare_cached(
        "SELECT coalesce(sum(octet_length(data)), 0) FROM entries WHERE session = ?1",
    )?;
    session.bytes = sum.query_row([session.number], |row| row.get(0))?;
    session.first = first;
    Ok(())
}

fn update(connection: &Connection, session: &Session, now: u64) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE sessions SET first = ?2, last = ?3, bytes = ?4, agent_session = ?5, touched_ms = ?6
         WHERE number = ?1",
    )?;
    update.execute(params![
        session.number,
        session.first,
        session.last,
        session.bytes,
        session.agent_session,
        now
    ])?;
    Ok(())
}
