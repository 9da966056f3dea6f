//! The one thread of this node that writes.
//!
//! ```text
//! take all that wait → begin, when no other node writes → run each, undo the failed → tell the
//! other nodes → commit → tell our own → answer
//! ```
//!
//! Every job is answered after the commit, since the next may come through another node. A commit
//! of jobs that asked to be answered soon does not wait for the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::connection::Seat;
use super::relay::Relay;
use super::tx::PgTx;
use crate::limits;
use crate::store::writer::{Jobs, Writer};
use crate::store::{Answer, Effects, Promise, StoreError, WriteJob};

/// Whoever holds this row is the only one that writes, over all nodes.
const BEGIN: &str = "BEGIN; SELECT seq FROM counters WHERE id = 1 FOR UPDATE";

/// Undoes one job, and lets the transaction go on when a statement of it failed.
const UNDO: &str = "ROLLBACK TO job; RELEASE job";

/// Starts the writing thread of this node.
pub(super) fn start(seat: Seat, relay: Arc<Relay>) -> Result<Writer, StoreError> {
    Writer::start(move |jobs| Loop { seat, jobs, relay }.run())
}

struct Loop {
    seat: Seat,
    jobs: Jobs,
    relay: Arc<Relay>,
}

impl Loop {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(limits::WRITE_BATCH_MAX);
        while self.jobs.next(&mut batch) {
            self.commit(&mut batch);
        }
        if let Some(connection) = self.seat.taken() {
            self.relay.part(connection);
        }
    }

    fn commit(&mut self, batch: &mut Vec<WriteJob>) {
        let soon = batch.iter().all(|job| job.promise == Promise::Soon);
        let connection = match self.seat.begin(BEGIN) {
            Ok(connection) => connection,
            Err(error) => {
                return batch
                    .drain(..)
                    .for_each(|job| job.work.refuse(error.clone()));
            }
        };
        let mut tx = PgTx::new(connection, self.relay.node());
        let answers: Vec<Answer> = batch
            .drain(..)
            .filter_map(|job| run(&mut tx, job))
            .collect();
        let outcome = finish(&mut tx, &self.relay, soon);
        let answered = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
        match outcome {
            Ok(effects) => self.relay.committed(effects),
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                let _ = tx.batch("ROLLBACK");
            }
        }
        for answer in answers {
            answer(answered.clone());
        }
    }
}

/// Commits; what it has changed.
fn finish(tx: &mut PgTx<'_>, relay: &Relay, soon: bool) -> Result<Effects, StoreError> {
    let effects = std::mem::take(&mut tx.effects);
    relay.announce(tx, &effects)?;
    if soon {
        tx.batch("SET LOCAL synchronous_commit = off")?;
    }
    match tx.batch("COMMIT") {
        Ok(()) => Ok(effects),
        Err(StoreError::Unreachable(reason)) => Err(StoreError::Uncertain(reason)),
        Err(error) => Err(error),
    }
}

/// Runs one job; what is left to answer after the commit.
fn run(tx: &mut PgTx<'_>, job: WriteJob) -> Option<Answer> {
    let (events, touched) = (tx.effects.events.len(), tx.effects.touched.len());
    if let Err(error) = tx.batch("SAVEPOINT job") {
        job.work.refuse(error);
        return None;
    }
    let ran = catch_unwind(AssertUnwindSafe(|| job.work.run(tx)));
    let keep = ran.as_ref().is_ok_and(|ran| ran.keep);
    let mut marked = if keep {
        tx.batch("RELEASE job")
    } else {
        Ok(())
    };
    if !keep || marked.is_err() {
        tx.effects.events.truncate(events);
        tx.effects.touched.truncate(touched);
        let undone = tx.batch(UNDO);
        marked = marked.and(undone);
    }
    let Ok(ran) = ran else {
        tracing::error!("a write job panicked; its changes are undone");
        return None;
    };
    // A failed job waits too: what it failed for may be in this transaction, and not be stored.
    match marked {
        Ok(()) => Some(ran.answer),
        Err(error) => {
            (ran.answer)(Err(error));
            None
        }
    }
}
