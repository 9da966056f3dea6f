//! The one thread that writes.
//!
//! ```text
//! take all that wait → begin → run each, undo the failed → take those who come again and run
//! them too → commit → tell the feed → answer
//! ```
//!
//! A job is answered after the commit, unless it asked to be answered soon. A commit that fails
//! fails every job in it, and nothing of them is stored.
//!
//! What would surprise: **SQLite undoes a whole transaction when a statement in it cannot write.**
//! The jobs that come after it must not run then, since their marks would begin and end transactions
//! of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::company::Company;
use super::connection;
use super::tx::SqliteTx;
use crate::limits;
use crate::store::writer::{Jobs, Writer};
use crate::store::{Answer, Feed, Promise, StoreError, WriteJob};

/// Starts the writing thread of a database.
pub(super) fn start(
    mut connection: Connection,
    path: &Path,
    (feed, behind): (Arc<Feed>, Arc<AtomicBool>),
) -> Result<Writer, StoreError> {
    let log = Log::open(&mut connection, path)?;
    Writer::start(move |jobs| {
        Loop {
            connection,
            jobs,
            feed,
            log,
            behind,
            unindexed: 0,
            company: Company::new(Instant::now()),
        }
        .run();
    })
}

struct Loop {
    connection: Connection,
    jobs: Jobs,
    feed: Arc<Feed>,
    log: Log,
    /// Whether the search index lacks messages.
    behind: Arc<AtomicBool>,
    /// What it would cost to index them.
    unindexed: usize,
    company: Company,
}

impl Loop {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(limits::WRITE_BATCH_MAX);
        while self.jobs.next(&mut batch) {
            self.commit(&mut batch);
            self.log.tend(&self.connection);
        }
        if let Err(error) = index_rest(&self.connection) {
            tracing::warn!(%error, "the newest messages are indexed when the file is opened again");
        }
        self.log.finish(&self.connection);
    }

    fn commit(&mut self, batch: &mut Vec<WriteJob>) {
        let begun = Instant::now();
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            let error = StoreError::from(error);
            return batch
                .drain(..)
                .for_each(|job| job.work.refuse(error.clone()));
        }
        let mut tx = SqliteTx::new(&self.connection);
        let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
        let (mut jobs, mut expected) = (0, self.company.expected(begun));
        let waits = batch.len() < expected.jobs;
        loop {
            jobs += batch.len();
            if run_all(&mut tx, batch, &mut answers).is_err() {
                return answers
                    .into_iter()
                    .for_each(|answer| answer(Err(StoreError::Undone)));
            }
            // Those who were answered already do not wait for the commit.
            let all = answers.len() >= expected.jobs;
            let room = limits::WRITE_BATCH_MAX.saturating_sub(jobs);
            if all || !self.jobs.more(batch, room, &mut expected.patience) {
                break;
            }
        }
        if waits {
            self.company.came(answers.len() >= expected.jobs);
        }
        let effects = std::mem::take(&mut tx.effects);
        let outcome = self.close(&tx).map(|(unindexed, took)| {
            self.unindexed = unindexed;
            let waiting = self.jobs.waiting();
            self.company
                .committed(answers.len(), waiting, took, Instant::now());
        });
        match &outcome {
            Ok(()) => self.feed.committed(effects),
            Err(error) => {
                tracing::error!(%error, "a commit failed; nothing of it is stored");
                // SQLite may have rolled back by itself already.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
        }
        for answer in answers {
            answer(outcome.clone());
        }
    }

    /// Commits what was run; what the search index lacks then, and how long the flush took.
    fn close(&self, tx: &SqliteTx<'_>) -> Result<(usize, Duration), StoreError> {
        let unindexed = self.tend_index(tx)?;
        let closing = Instant::now();
        self.connection.execute_batch("COMMIT")?;
        // Before anybody is answered: whoever has posted must find it.
        self.behind.store(unindexed > 0, Ordering::Release);
        Ok((unindexed, closing.elapsed()))
    }

    /// Brings the search index up to date where it lacks too much; what it lacks then.
    fn tend_index(&self, tx: &SqliteTx<'_>) -> Result<usize, StoreError> {
        let unindexed = match tx.indexed.get() {
            true => tx.cost_unindexed()?,
            false => self.unindexed + tx.unindexed.get(),
        };
        if unindexed < limits::INDEX_BEHIND_MAX {
            return Ok(unindexed);
        }
        tx.index_now()?;
        Ok(0)
    }
}

/// Indexes what a writer before this one has left.
pub(super) fn index_rest(connection: &Connection) -> Result<(), StoreError> {
    let whole = connection.unchecked_transaction()?;
    SqliteTx::new(&whole).index_now()?;
    Ok(whole.commit()?)
}

/// Runs jobs, and keeps those answers that wait for the commit. Fails when one has undone the
/// transaction; the rest are refused then.
fn run_all(
    tx: &mut SqliteTx<'_>,
    batch: &mut Vec<WriteJob>,
    answers: &mut Vec<Answer>,
) -> Result<(), StoreError> {
    let mut jobs = batch.drain(..);
    while let Some(job) = jobs.next() {
        answers.extend(run(tx, job));
        if is_undone(tx) {
            tracing::error!("a write failed and undid the transaction; nothing of it is stored");
            jobs.for_each(|job| job.work.refuse(StoreError::Undone));
            return Err(StoreError::Undone);
        }
    }
    Ok(())
}

/// Runs one job; what is left to answer after the commit.
fn run(tx: &mut SqliteTx<'_>, job: WriteJob) -> Option<Answer> {
    let WriteJob { promise, work } = job;
    let (events, touched) = (tx.effects.events.len(), tx.effects.touched.len());
    mark(tx, "SAVEPOINT job")?;
    let ran = catch_unwind(AssertUnwindSafe(|| work.run(tx)));
    let keep = ran.as_ref().is_ok_and(|ran| ran.keep);
    if is_undone(tx) {
        if let Ok(ran) = ran {
            // The job that failed says why by itself.
            let stored = if keep {
                Err(StoreError::Undone)
            } else {
                Ok(())
            };
            (ran.answer)(stored);
        }
        return None;
    }
    if !keep {
        mark(tx, "ROLLBACK TO job")?;
        tx.effects.events.truncate(events);
        tx.effects.touched.truncate(touched);
    }
    mark(tx, "RELEASE job")?;
    let Ok(ran) = ran else {
        tracing::error!("a write job panicked; its changes are undone");
        return None;
    };
    // A failed job waits too: what it failed for may be in this transaction, and not be stored.
    if promise == Promise::Soon {
        (ran.answer)(Ok(()));
        return None;
    }
    Some(ran.answer)
}

/// Whether SQLite has ended the transaction by itself.
fn is_undone(tx: &SqliteTx<'_>) -> bool {
    tx.connection.is_autocommit()
}

/// Sets or releases the mark to which a failed job is undone. Without the mark the job is not run,
/// and its dropped answer says so.
fn mark(tx: &SqliteTx<'_>, sql: &str) -> Option<()> {
    match tx.run(sql, []) {
        Ok(_) => Some(()),
        Err(error) => {
            tracing::error!(%error, sql, "a write cannot be set apart");
            None
        }
    }
}

/// The write-ahead log: copied into the database by a thread of its own while it is small, by the
/// writer when it has grown too large.
struct Log {
    /// Pages in it at the last commit. The file does not tell: it keeps its length when SQLite
    /// begins again at its front.
    pages: Arc<AtomicU64>,
    pace: Pace,
    /// Asks the thread to copy; full while it does.
    copy: SyncSender<()>,
}

/// When the log is copied next.
#[derive(Debug, Default)]
struct Pace {
    /// Pages in the log when a copy was asked for last.
    asked: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// A copy beside the writer.
    Copy,
    /// A copy for which the writer stops: it is whole then, and the log can begin at its front
    /// again. Readers are not waited for; while they are there it is tried again later.
    Stop,
    /// The same, and readers are waited for.
    Wait,
}

impl Pace {
    /// What is due when the log has so many pages: a copy for each so many that are new, and not
    /// for each commit, even if a reader keeps the log from beginning again.
    fn next(&mut self, pages: u64) -> Due {
        // Fewer than before: it has begun again.
        self.asked = if pages < self.asked { 0 } else { self.asked };
        if pages - self.asked < limits::WAL_SOFT_PAGES {
            return Due::Nothing;
        }
        self.asked = pages;
        match pages {
            limits::WAL_LAST_PAGES.. => Due::Wait,
            limits::WAL_HARD_PAGES.. => Due::Stop,
            _ => Due::Copy,
        }
    }
}

impl Log {
    fn open(connection: &mut Connection, path: &Path) -> Result<Self, StoreError> {
        let (copy, asked) = sync_channel(1);
        let path = path.to_owned();
        thread::Builder::new()
            .name("chat-checkpoint".to_owned())
            .spawn(move || copy_when_asked(&path, &asked))
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let pages = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&pages);
        connection.wal_hook(Some(move |_: &mut Wal, pages: i32| {
            counted.store(pages.unsigned_abs().into(), Ordering::Relaxed);
            Ok(())
        }))?;
        let pace = Pace::default();
        Ok(Self { pages, pace, copy })
    }

    fn tend(&mut self, connection: &Connection) {
        match self.pace.next(self.pages.load(Ordering::Relaxed)) {
            Due::Nothing => {}
            // A full channel means that a copy is under way.
            Due::Copy => drop(self.copy.try_send(())),
            Due::Stop => checkpoint(connection, "PASSIVE"),
            Due::Wait => checkpoint(connection, "TRUNCATE"),
        }
    }

    fn finish(&self, connection: &Connection) {
        checkpoint(connection, "TRUNCATE");
    }
}

/// Copies the log whenever it is asked to, over a connection that it opens for the first copy:
/// few runs of a bus write so much that there is one.
fn copy_when_asked(path: &Path, asked: &Receiver<()>) {
    let mut opened = None;
    while asked.recv().is_ok() {
        let connection = match opened.take() {
            Some(connection) => Ok(connection),
            None => connection::to_checkpoint(path),
        };
        match connection {
            Ok(connection) => checkpoint(opened.insert(connection), "PASSIVE"),
            Err(error) => tracing::warn!(%error, "the log of the database could not be copied"),
        }
    }
}

fn checkpoint(connection: &Connection, mode: &str) {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    match connection.query_row(&sql, [], |row| row.get(0)) {
        Ok(true) if mode == "TRUNCATE" => {
            tracing::warn!("the log of the database grows: somebody reads it without end");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the log of the database could not be copied"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_copied_for_each_so_many_new_pages_and_not_for_each_commit() {
        let mut pace = Pace::default();
        let mut copies = |pages: std::ops::Range<u64>| {
            let due = pages.map(|pages| pace.next(pages));
            due.filter(|due| *due == Due::Copy).count()
        };
        let soft = limits::WAL_SOFT_PAGES;
        assert_eq!(copies(0..soft), 0);
        // It does not begin again, because somebody reads.
        assert_eq!(copies(soft..limits::WAL_HARD_PAGES), 3);
        // It begins again, and its file is as long as before.
        assert_eq!(copies(0..soft), 0);
        assert_eq!(copies(soft..soft + 10), 1);
        let hard = limits::WAL_HARD_PAGES;
        let stops = (hard..hard + 2 * soft).filter(|pages| pace.next(*pages) == Due::Stop);
        assert_eq!(stops.count(), 2);
        let last = limits::WAL_LAST_PAGES;
        let waits = (last..last + 2 * soft).filter(|pages| pace.next(*pages) == Due::Wait);
        assert_eq!(waits.count(), 2);
    }
}
