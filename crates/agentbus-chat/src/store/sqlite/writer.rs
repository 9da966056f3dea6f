//! The one thread that writes.
//!
//! ```text
//! take all that wait → begin → run each, undo the failed → commit → tell the feed → answer
//! ```
//!
//! A job is answered after the commit, unless it asked to be answered soon. A commit that fails
//! fails every job in it, and nothing of them is stored.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rusqlite::Connection;

use super::connection;
use super::tx::SqliteTx;
use crate::limits;
use crate::store::writer::{Jobs, Writer};
use crate::store::{Answer, Feed, Promise, StoreError, WriteJob};

/// Starts the writing thread of a database.
pub(super) fn start(
    connection: Connection,
    path: &Path,
    feed: Arc<Feed>,
) -> Result<Writer, StoreError> {
    let log = Log::open(path)?;
    Writer::start(move |jobs| {
        Loop {
            connection,
            jobs,
            feed,
            log,
        }
        .run();
    })
}

struct Loop {
    connection: Connection,
    jobs: Jobs,
    feed: Arc<Feed>,
    log: Log,
}

impl Loop {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(limits::WRITE_BATCH_MAX);
        while self.jobs.next(&mut batch) {
            self.commit(&mut batch);
            self.log.tend(&self.connection);
        }
        self.log.finish(&self.connection);
    }

    fn commit(&self, batch: &mut Vec<WriteJob>) {
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            let error = StoreError::from(error);
            return batch
                .drain(..)
                .for_each(|job| job.work.refuse(error.clone()));
        }
        let mut tx = SqliteTx::new(&self.connection);
        let answers: Vec<Answer> = batch
            .drain(..)
            .filter_map(|job| run(&mut tx, job))
            .collect();
        let effects = std::mem::take(&mut tx.effects);
        let outcome = tx
            .index_now()
            .and_then(|()| Ok(self.connection.execute_batch("COMMIT")?));
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
}

/// Runs one job; what is left to answer after the commit.
fn run(tx: &mut SqliteTx<'_>, job: WriteJob) -> Option<Answer> {
    let WriteJob { promise, work } = job;
    let (events, touched) = (tx.effects.events.len(), tx.effects.touched.len());
    let index = tx.mark_index();
    mark(tx, "SAVEPOINT job")?;
    let ran = catch_unwind(AssertUnwindSafe(|| work.run(tx)));
    let keep = ran.as_ref().is_ok_and(|ran| ran.keep);
    if !keep {
        mark(tx, "ROLLBACK TO job")?;
        tx.undo_index(index);
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
    path: PathBuf,
    /// Asks the thread to copy; full while it does.
    copy: SyncSender<()>,
}

impl Log {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let copier = connection::to_checkpoint(path)?;
        let (copy, asked) = sync_channel(1);
        thread::Builder::new()
            .name("chat-checkpoint".to_owned())
            .spawn(move || copy_when_asked(&copier, &asked))
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        Ok(Self {
            path: name.into(),
            copy,
        })
    }

    fn tend(&self, connection: &Connection) {
        let size = std::fs::metadata(&self.path).map_or(0, |log| log.len());
        if size > limits::WAL_HARD_BYTES {
            checkpoint(connection, "TRUNCATE");
        } else if size > limits::WAL_SOFT_BYTES {
            // A full channel means that the copy is under way.
            let _ = self.copy.try_send(());
        }
    }

    fn finish(&self, connection: &Connection) {
        checkpoint(connection, "TRUNCATE");
    }
}

fn copy_when_asked(connection: &Connection, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        checkpoint(connection, "PASSIVE");
    }
}

fn checkpoint(connection: &Connection, mode: &str) {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    if let Err(error) = connection.query_row(&sql, [], |_| Ok(())) {
        tracing::warn!(%error, "the log of the database could not be copied");
    }
}
