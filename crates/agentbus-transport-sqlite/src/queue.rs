//! What waits for the writer.

use std::time::{Duration, Instant};

use agentbus_protocol::{Pattern, Text};
use agentbus_transport::{Completion, PublishOptions, Receipt, TransportError};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::cursors::Cursors;
use crate::limits;
use crate::record::Record;

/// One thing to write.
#[derive(Debug)]
pub(crate) enum Op {
    Append(Append),
    Work(Work),
    Create(Create),
    Remove(Remove),
}

/// A publish.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) record: Record,
    pub(crate) options: PublishOptions,
    pub(crate) done: oneshot::Sender<Result<Written, TransportError>>,
    /// Held until the message is on the disk; others wait for it.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// A publish that is on the disk.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) seq: u64,
    pub(crate) duplicate: bool,
    /// Its way to the subscriptions that do not read the log; it may have to wait for room.
    pub(crate) live: Completion<Result<Receipt, TransportError>>,
}

/// What one durable subscription has to write down. Everything in it is written or nothing.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) consumer: i64,
    pub(crate) cursors: Option<Cursors>,
    /// Seen for the first time; their first attempt begins.
    pub(crate) claimed: Vec<u64>,
    /// Attempts that begin or, when withdrawn, have not.
    pub(crate) attempts: Vec<(u64, u32)>,
    /// Times before which the next attempt does not begin.
    pub(crate) delayed: Vec<(u64, i64)>,
    pub(crate) settled: Vec<u64>,
    /// Letters that are written in place of what died.
    pub(crate) letters: Vec<Record>,
    pub(crate) done: Option<oneshot::Sender<Result<(), TransportError>>>,
}

impl Work {
    pub(crate) const fn is_empty(&self) -> bool {
        self.claimed.is_empty()
            && self.attempts.is_empty()
            && self.delayed.is_empty()
            && self.settled.is_empty()
            && self.letters.is_empty()
    }
}

/// A durable subscription that is new.
#[derive(Debug)]
pub(crate) struct Create {
    pub(crate) name: Text,
    pub(crate) group: Option<Text>,
    pub(crate) pattern: Pattern,
    /// Where it begins; `None` behind the newest message at the time it is written.
    pub(crate) cursors: Option<Cursors>,
    pub(crate) done: oneshot::Sender<Result<(i64, Cursors), TransportError>>,
}

/// A durable subscription that is to be forgotten.
#[derive(Debug)]
pub(crate) struct Remove {
    pub(crate) consumer: i64,
    pub(crate) done: oneshot::Sender<Result<(), TransportError>>,
}

/// The way to the writer: many push, the one writer takes what is there as one group.
///
/// It is bounded by those who push: publishes hold a permit, and a subscription has only so many
/// messages that it can settle.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ops: Vec<Op>,
    closed: bool,
    /// How many the writer waits for; those before need not wake it.
    wanted: usize,
}

/// How the writer waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Longest wait for anything at all.
    pub(crate) idle: Duration,
    /// As many as came together the last time.
    pub(crate) company: usize,
    /// Longest wait for so many, once there is one.
    pub(crate) gather: Duration,
}

impl Queue {
    /// Hands an operation to the writer.
    pub(crate) fn push(&self, op: Op) -> Result<(), TransportError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(TransportError::Closed);
        }
        state.ops.push(op);
        let enough = state.ops.len() >= state.wanted;
        drop(state);
        if enough {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes the next group; empty when nothing came for the longest wait, `None` when nothing
    /// will come any more.
    pub(crate) fn take(&self, patience: Patience) -> Option<Vec<Op>> {
        if patience.company > 0 {
            self.linger();
        }
        let mut state = self.state.lock();
        state.wanted = 1;
        let deadline = Instant::now() + patience.idle;
        while state.ops.is_empty() && !state.closed {
            if self.filled.wait_until(&mut state, deadline).timed_out() {
                return Some(Vec::new());
            }
        }
        // Those who wrote together were answered together and are on their way again; a commit
        // that began with the first of them would leave the others to the one after it.
        state.wanted = patience.company.min(limits::GROUP_MAX);
        let deadline = Instant::now() + patience.gather;
        while state.ops.len() < state.wanted && !state.closed {
            if self.filled.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        if state.ops.is_empty() {
            return None;
        }
        let count = state.ops.len().min(limits::GROUP_MAX);
        let rest = state.ops.split_off(count);
        Some(std::mem::replace(&mut state.ops, rest))
    }

    /// Gives those who were just answered the time to come back.
    fn linger(&self) {
        let until = Instant::now() + limits::LINGER;
        while Instant::now() < until {
            let state = self.state.lock();
            if state.closed || !state.ops.is_empty() {
                return;
            }
            drop(state);
            std::thread::yield_now();
        }
    }

    /// Takes no more; what is in it is still written.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }
}

/// The answer of the writer to something that was pushed.
pub(crate) async fn answer<T>(
    answer: oneshot::Receiver<Result<T, TransportError>>,
) -> Result<T, TransportError> {
    // The writer answers everything it takes; one that is gone has closed.
    answer.await.unwrap_or(Err(TransportError::Closed))
}
