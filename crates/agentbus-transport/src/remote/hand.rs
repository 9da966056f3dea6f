//! What a member of a shared queue has in hand.
//!
//! A broker gives a member as much as it may hold unsettled and no more, so that the others have
//! the rest. Until somebody reads, a member wants nothing at all.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::{Delivery, Message, QueueStats, Received, Settle};

/// A message that a broker gave to a member, with what it takes to settle it.
pub trait Taken {
    /// The message.
    fn message(&self) -> &Arc<Message>;
    /// Which attempt this is, from 1.
    fn attempt(&self) -> u32;
    /// Its number in the log; `None` when it is in none.
    fn sequence(&self) -> Option<u64> {
        None
    }
}

/// Messages between the broker and their verdicts.
#[derive(Debug)]
pub struct Hand<T> {
    /// Given by the broker and not handed out.
    pub ready: VecDeque<T>,
    /// Handed out and not settled, by token.
    pub held: HashMap<u128, T>,
    tokens: u128,
    receiver: Option<Waker>,
    wanted: bool,
    ended: bool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: u64,
    expired: u64,
    redelivered: u64,
}

/// What came of a poll, for the member to act on once it holds no lock.
#[derive(Debug)]
pub struct Handed<T> {
    /// What to answer whoever polled.
    pub count: Poll<usize>,
    /// Whether there is more room than before, or somebody reads for the first time.
    pub wants_more: bool,
    /// Handed out for information only; the broker has to be told that they are done with.
    pub expired: Vec<T>,
    /// Whether this was the last of all.
    pub is_drained: bool,
}

impl<T> Default for Hand<T> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            held: HashMap::new(),
            tokens: 0,
            receiver: None,
            wanted: false,
            ended: false,
            counts: Counts::default(),
        }
    }
}

impl<T: Taken> Hand<T> {
    /// Takes in what the broker gave.
    pub fn put(&mut self, taken: T) {
        self.counts.redelivered += u64::from(taken.attempt() > 1);
        self.ready.push_back(taken);
        self.wake();
    }

    /// Takes a message back that was handed out before, before all others.
    pub fn put_front(&mut self, taken: T) {
        self.counts.redelivered += 1;
        self.ready.push_front(taken);
        self.wake();
    }

    /// Takes away what nobody has looked at.
    pub fn take_back(&mut self) -> Vec<T> {
        self.ready.drain(..).collect()
    }

    /// Whether anybody has read and may read on.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.wanted && !self.ended
    }

    /// Nothing more will be taken in.
    pub fn end(&mut self) {
        self.ended = true;
        self.wake();
    }

    /// Whether everything is handed out and nothing more will come.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    /// Hands out what there is; see [`Source::poll_receive`](crate::Source::poll_receive).
    /// `settle` hears the verdicts.
    pub fn poll(
        &mut self,
        cx: &Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
        settle: &Arc<dyn Settle>,
    ) -> Handed<T> {
        let is_first = !std::mem::replace(&mut self.wanted, true);
        let mut expired = Vec::new();
        let count = match (self.ready.len(), self.ended) {
            (0, true) => Poll::Ready(0),
            (0, false) => {
                self.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
            (ready, _) => {
                let count = max.max(1).min(ready);
                for _ in 0..count {
                    let taken = self.ready.pop_front();
                    batch.extend(taken.map(|taken| self.hand_out(taken, settle, &mut expired)));
                }
                Poll::Ready(count)
            }
        };
        Handed {
            count,
            wants_more: is_first || !expired.is_empty(),
            expired,
            is_drained: self.is_drained(),
        }
    }

    fn hand_out(&mut self, taken: T, settle: &Arc<dyn Settle>, expired: &mut Vec<T>) -> Received {
        let mut delivery = Delivery::new(Arc::clone(taken.message()), taken.attempt());
        if let Some(sequence) = taken.sequence() {
            delivery = delivery.numbered(sequence);
        }
        if taken.message().is_expired() {
            self.counts.expired += 1;
            expired.push(taken);
            return Received::Expired(delivery);
        }
        self.counts.delivered += 1;
        self.tokens += 1;
        self.held.insert(self.tokens, taken);
        Received::Live(delivery.settled_by(Arc::clone(settle), self.tokens))
    }

    /// What an operator can see of it.
    #[must_use]
    pub fn stats(&self, pattern: &str, group: Option<&str>, capacity: usize) -> QueueStats {
        QueueStats {
            pattern: pattern.to_owned(),
            group: group.map(ToOwned::to_owned),
            depth: self.ready.len(),
            capacity,
            delivered: self.counts.delivered,
            dropped: 0,
            expired: self.counts.expired,
            redelivered: self.counts.redelivered,
            stalled: 0,
        }
    }

    fn wake(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }
}

#[cfg(test)]
mod tests;
