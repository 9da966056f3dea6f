//! The queue of one subscription that merely listens.
//!
//! The broker keeps nothing for those who merely listen, and a publisher elsewhere cannot be held
//! back. So the queue is bounded, the oldest message makes room, and the subscriber is told how
//! many it lost. A message comes again only because this process puts it back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{Delivery, Message, QueueStats, Received, Settle, limits};

/// What was heard and not handed out.
#[derive(Debug)]
pub struct Queue {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Arc<Message>, u32)>,
    receiver: Option<Waker>,
    phase: Phase,
    /// Redeliveries that wait for their time.
    delayed: usize,
    /// Messages lost since the last delivery.
    missed: u64,
    counts: Counts,
}

/// The life of a queue.
///
/// ## Open => Stopping => Ended, or Open => Ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Open,
    /// Waits for what the broker had sent before it was told.
    Stopping,
    /// Only hands out what is in the queue.
    Ended,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: u64,
    dropped: u64,
    expired: u64,
    redelivered: u64,
}

impl Queue {
    /// A queue for at most so many messages.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.clamp(1, limits::QUEUE_CAPACITY_MAX),
            state: Mutex::default(),
        }
    }

    /// Takes a message in. When there is no room the oldest goes.
    pub fn put(&self, message: &Arc<Message>) {
        let mut state = self.state.lock();
        if state.phase == Phase::Ended {
            return;
        }
        if state.queue.len() >= self.capacity {
            state.queue.pop_front();
            state.missed += 1;
            state.counts.dropped += 1;
        }
        state.queue.push_back((Arc::clone(message), 1));
        state.wake();
    }

    /// Takes a message back for another attempt after `attempt`. Returns what is left to do when
    /// that is to wait. Beyond the last attempt the message is given up, which nobody waits to
    /// hear.
    pub fn put_back(
        self: &Arc<Self>,
        message: Arc<Message>,
        attempt: u32,
        delay: Duration,
        ending: CancellationToken,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let next = attempt.saturating_add(1);
        if next > limits::ATTEMPTS_MAX {
            return None;
        }
        if delay.is_zero() {
            self.state.lock().put_front(message, next);
            return None;
        }
        self.state.lock().delayed += 1;
        let (queue, delay) = (Arc::clone(self), delay.min(limits::NAK_DELAY_MAX));
        Some(async move {
            tokio::select! {
                () = ending.cancelled() => {}
                () = tokio::time::sleep(delay) => {}
            }
            let mut state = queue.state.lock();
            state.delayed -= 1;
            state.put_front(message, next);
        })
    }

    /// Begins to wait for the last messages; whether that is new.
    pub fn begin_stop(&self) -> bool {
        let mut state = self.state.lock();
        let is_new = state.phase == Phase::Open;
        if is_new {
            state.phase = Phase::Stopping;
        }
        is_new
    }

    /// Takes nothing more; what is there can still be received.
    pub fn finish(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        state.wake();
    }

    /// Gives up what is left and returns it.
    pub fn end(&self) -> Vec<Arc<Message>> {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        let left = state.queue.drain(..).map(|(message, _)| message).collect();
        state.wake();
        left
    }

    /// Whether everything is handed out and nothing more will come.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.state.lock().is_drained()
    }

    /// Hands out what is there; see [`Source::poll_receive`](crate::Source::poll_receive). `settle`
    /// names who hears the verdict on a message.
    pub fn poll(
        &self,
        cx: &Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
        settle: impl Fn(&Arc<Message>) -> Arc<dyn Settle>,
    ) -> Poll<usize> {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            if state.is_over() {
                return Poll::Ready(0);
            }
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = max.max(1).min(state.queue.len());
        let mut missed = std::mem::take(&mut state.missed);
        for _ in 0..count {
            let Some((message, attempt)) = state.queue.pop_front() else {
                break;
            };
            let settled_by = (!message.is_expired()).then(|| settle(&message));
            let delivery =
                Delivery::new(message, attempt).after_missing(std::mem::take(&mut missed));
            if let Some(settled_by) = settled_by {
                state.counts.delivered += 1;
                batch.push(Received::Live(delivery.settled_by(settled_by, 0)));
            } else {
                state.counts.expired += 1;
                batch.push(Received::Expired(delivery));
            }
        }
        Poll::Ready(count)
    }

    /// What an operator can see of it.
    #[must_use]
    pub fn stats(&self, pattern: &str, group: Option<&str>) -> QueueStats {
        let state = self.state.lock();
        QueueStats {
            pattern: pattern.to_owned(),
            group: group.map(ToOwned::to_owned),
            depth: state.queue.len(),
            capacity: self.capacity,
            delivered: state.counts.delivered,
            dropped: state.counts.dropped,
            expired: state.counts.expired,
            redelivered: state.counts.redelivered,
            stalled: 0,
        }
    }
}

impl State {
    fn put_front(&mut self, message: Arc<Message>, attempt: u32) {
        self.counts.redelivered += 1;
        self.queue.push_front((message, attempt));
        self.wake();
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Ended && self.delayed == 0
    }

    fn is_drained(&self) -> bool {
        self.is_over() && self.queue.is_empty()
    }

    fn wake(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }
}
