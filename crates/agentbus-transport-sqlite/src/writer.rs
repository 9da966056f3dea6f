//! The one writer: a thread that takes groups of operations and commits each with one sync.
//!
//! A thread and not a task, because it spends its life in system calls that block. It promises that
//! what it answers is on the disk, that subscriptions see messages in the order of their numbers,
//! and that a commit that fails leaves nothing behind but its error.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use agentbus_transport::{
    Completion, Durability, PublishOptions, Receipt, Transport, TransportError,
};
use rusqlite::Connection;

use crate::error::explain;
use crate::group::{Applied, End, Group};
use crate::limits;
use crate::lock::Lock;
use crate::options::Retention;
use crate::queue::{Append, Op, Patience, Work, Written};
use crate::record::Record;
use crate::retention::Tidy;
use crate::store::Store;

/// The writer's own state; nobody else touches the connection.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) store: Arc<Store>,
    pub(crate) end: End,
    pub(crate) retention: Retention,
    /// Given up last, when the connection is closed.
    pub(crate) lock: Lock,
}

impl Writer {
    /// Writes until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut patience = Patience {
            idle: Duration::ZERO,
            company: 1,
            gather: Duration::ZERO,
        };
        while let Some(group) = self.store.queue.take(patience) {
            let publishers = group
                .iter()
                .filter(|op| matches!(op, Op::Append(_)))
                .count();
            let begun = Instant::now();
            let applied = self.commit(&group);
            patience.gather = (begun.elapsed() / 4).min(limits::GATHER_MAX);
            patience.company = publishers;
            match applied {
                Ok(applied) => self.conclude(group, applied),
                Err(error) => self.refuse(group, &error),
            }
            patience.idle =
                self.tidy()
                    .next(&self.connection, self.end.last, self.store.clock.now_ms());
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the log was not closed in order; it is checked when it is opened again");
        }
        drop(self.lock);
    }

    fn tidy(&self) -> Tidy {
        Tidy {
            retention: self.retention,
            needed: self.store.consumers.needed(),
        }
    }

    /// Writes a group, or nothing of it.
    fn commit(&mut self, ops: &[Op]) -> Result<Vec<Applied>, TransportError> {
        let written = self.transact(ops);
        if written.is_err() && !self.connection.is_autocommit() {
            // A failure here leaves the transaction open, and the next one begins with an error.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        written.map_err(|error| {
            let error = explain(&self.store.path, &error);
            tracing::error!(%error, "nothing could be written");
            error
        })
    }

    fn transact(&mut self, ops: &[Op]) -> Result<Vec<Applied>, rusqlite::Error> {
        let execute = |sql: &str| self.connection.prepare_cached(sql)?.execute(());
        execute("BEGIN IMMEDIATE")?;
        let mut group = Group {
            connection: &self.connection,
            end: self.end,
            full: None,
            now_ms: self.store.clock.now_ms(),
        };
        let tidied = self.tidy().run(&group)?;
        group.full = tidied.full;
        let applied = ops.iter().map(|op| group.apply(op));
        let applied = applied.collect::<Result<Vec<_>, _>>()?;
        let end = group.end;
        execute("COMMIT")?;
        self.end = end;
        self.store.tail.forget_before(tidied.first);
        self.store.first.store(tidied.first, Ordering::Release);
        Ok(applied)
    }

    /// Shows the group to the subscriptions and answers those who wait.
    fn conclude(&self, group: Vec<Op>, applied: Vec<Applied>) {
        for (op, applied) in group.iter().zip(&applied) {
            self.show(op, applied);
        }
        // What only settles something wakes nobody.
        let last = self.end.last;
        self.store
            .committed
            .send_if_modified(|known| std::mem::replace(known, last) != last);
        for (op, applied) in group.into_iter().zip(applied) {
            self.answer(op, applied);
        }
    }

    fn show(&self, op: &Op, applied: &Applied) {
        let push = |seq, record: &Record| {
            let message = Arc::clone(&record.message);
            self.store.tail.push(seq, message, record.envelope.len());
        };
        match (op, applied) {
            (
                Op::Append(append),
                Applied::Stored {
                    seq,
                    duplicate: false,
                },
            ) => {
                push(*seq, &append.record);
            }
            (Op::Work(work), Applied::Worked { letters }) => {
                letters
                    .iter()
                    .zip(&work.letters)
                    .for_each(|(seq, letter)| push(*seq, letter));
            }
            _ => {}
        }
    }

    fn answer(&self, op: Op, applied: Applied) {
        match (op, applied) {
            (Op::Append(append), Applied::Stored { seq, duplicate }) => {
                self.stored(append, seq, duplicate);
            }
            (Op::Append(append), Applied::Refused(error)) => drop(append.done.send(Err(error))),
            (Op::Work(work), _) => self.worked(work),
            (Op::Create(create), Applied::Created { consumer, cursors }) => {
                drop(create.done.send(Ok((consumer, cursors))));
            }
            (Op::Remove(remove), _) => drop(remove.done.send(Ok(()))),
            (op, _) => refuse(op, &TransportError::Closed),
        }
    }

    fn stored(&self, append: Append, seq: u64, duplicate: bool) {
        let live = if duplicate {
            Completion::ready(Ok(Receipt::new(Durability::Disk, None)))
        } else {
            self.publish_live(&append.record, append.options)
        };
        // A publisher that has left does not hear of it; the message is stored all the same.
        let _ = append.done.send(Ok(Written {
            seq,
            duplicate,
            live,
        }));
    }

    /// Passes a message to the subscriptions that do not read the log.
    fn publish_live(
        &self,
        record: &Record,
        mut options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        options.idempotency_key = None;
        // Whether somebody listens was found out before; a reader of the log may be the only one.
        options.require_responder = false;
        options.confirm &= self.store.live.receivers(&record.message.subject) > 0;
        let message = Arc::clone(&record.message);
        self.store.live.publish(message, options)
    }

    fn worked(&self, work: Work) {
        for letter in &work.letters {
            // Nobody publishes a letter, so nobody waits until its readers have room.
            drop(self.publish_live(letter, PublishOptions::default()));
        }
        if let Some(done) = work.done {
            drop(done.send(Ok(())));
        }
    }

    fn refuse(&self, group: Vec<Op>, error: &TransportError) {
        group.into_iter().for_each(|op| refuse(op, error));
    }
}

/// Tells whoever waits that it was not written.
pub(crate) fn refuse(op: Op, error: &TransportError) {
    let error = error.clone();
    match op {
        Op::Append(append) => drop(append.done.send(Err(error))),
        Op::Work(Work {
            done: Some(done), ..
        }) => drop(done.send(Err(error))),
        Op::Work(_) => {}
        Op::Create(create) => drop(create.done.send(Err(error))),
        Op::Remove(remove) => drop(remove.done.send(Err(error))),
    }
}
