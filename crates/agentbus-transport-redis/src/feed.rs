//! The queue of one plain subscription.
//!
//! The server keeps nothing for those who merely listen, and a publisher elsewhere cannot be held
//! back. So the queue is bounded here, the oldest message makes room, and the subscriber is told
//! how many it lost. A message comes again only because this process puts it back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agentbus_protocol::Pattern;
use agentbus_transport::{
    Completion, Delivery, Message, QueueStats, Received, Settle, Source, TransportError, Verdict,
    limits as common,
};
use parking_lot::Mutex;

use crate::hearing::Topic;
use crate::limits;
use crate::link::{Drain, Link};

pub(crate) struct Feed {
    link: Arc<Link>,
    pub(crate) pattern: Pattern,
    pub(crate) topic: Topic,
    capacity: usize,
    number: u64,
    state: Mutex<State>,
}

#[derive(Default)]
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

/// The life of a feed.
///
/// ## Open => Stopping => Ended, or Open => Ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Open,
    /// Waits for what the server had sent before it was told.
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

impl Feed {
    /// Subscribes; when this returns, the server knows.
    pub(crate) async fn open(
        link: &Arc<Link>,
        pattern: Pattern,
        capacity: usize,
    ) -> Result<Arc<Self>, TransportError> {
        let topic = Topic::of(link.names(), &pattern);
        let number = link.number();
        let feed = Arc::new(Self {
            link: Arc::clone(link),
            pattern,
            topic,
            capacity: capacity.clamp(1, common::QUEUE_CAPACITY_MAX),
            number,
            state: Mutex::default(),
        });
        let seen: std::sync::Weak<dyn Drain> = Arc::downgrade(&feed) as _;
        link.enter(number, seen)?;
        if let Err(error) = link.hearing().add(&feed).await {
            feed.close();
            return Err(error);
        }
        Ok(feed)
    }

    /// Takes a message in. When there is no room the oldest goes.
    pub(crate) fn put(&self, message: &Arc<Message>) {
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

    fn put_back(self: &Arc<Self>, message: Arc<Message>, attempt: u32, delay: Duration) {
        if attempt > common::ATTEMPTS_MAX || self.link.is_closed() {
            return;
        }
        if delay.is_zero() {
            return self.state.lock().put_front(message, attempt);
        }
        self.state.lock().delayed += 1;
        let (feed, delay) = (Arc::clone(self), delay.min(common::NAK_DELAY_MAX));
        self.link.spawn(async move {
            tokio::select! {
                () = feed.link.ending().cancelled() => {}
                () = tokio::time::sleep(delay) => {}
            }
            let mut state = feed.state.lock();
            state.delayed -= 1;
            state.put_front(message, attempt);
        });
    }

    /// Ends the subscription for good, and with it whatever waits.
    fn close(self: &Arc<Self>) {
        self.link.leave(self.number);
        self.end();
        self.unsubscribe();
    }

    fn unsubscribe(self: &Arc<Self>) {
        let feed = Arc::clone(self);
        self.link.spawn(async move {
            feed.link.hearing().remove(&feed).await;
        });
    }

    /// Takes no new messages once the server has delivered what was published before.
    async fn finish(self: Arc<Self>) {
        // When the server does not answer, what it had sent is not coming either.
        let _ = self.link.hearing().echo(limits::STOP_TIMEOUT).await;
        self.end_phase();
        self.link.hearing().remove(&self).await;
        self.link.note_drained();
    }

    fn end_phase(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        state.wake();
    }

    fn poll(
        &self,
        cx: &Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
        settle: &Arc<Self>,
    ) -> Poll<usize> {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            if state.is_over() {
                return Poll::Ready(0);
            }
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = max.min(state.queue.len());
        let mut missed = std::mem::take(&mut state.missed);
        for _ in 0..count {
            let Some((message, attempt)) = state.queue.pop_front() else {
                break;
            };
            let expired = message.is_expired();
            let delivery =
                Delivery::new(message, attempt).after_missing(std::mem::take(&mut missed));
            if expired {
                state.counts.expired += 1;
                batch.push(Received::Expired(delivery));
            } else {
                state.counts.delivered += 1;
                let settle = Arc::clone(settle);
                batch.push(Received::Live(delivery.settled_by(settle, 0)));
            }
        }
        let drained = state.is_drained();
        drop(state);
        if drained {
            self.link.note_drained();
        }
        Poll::Ready(count)
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

impl Drain for Feed {
    fn stop(self: Arc<Self>) {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return;
        }
        state.phase = Phase::Stopping;
        drop(state);
        let link = Arc::clone(&self.link);
        link.spawn(self.finish());
    }

    fn is_drained(&self) -> bool {
        self.state.lock().is_drained()
    }

    fn end(&self) -> usize {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        let left = state.queue.len();
        state.queue.clear();
        state.wake();
        left
    }

    fn stats(&self) -> QueueStats {
        let state = self.state.lock();
        QueueStats {
            pattern: self.pattern.to_string(),
            group: None,
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

impl Settle for Feed {
    fn settle(
        self: Arc<Self>,
        _token: u64,
        verdict: Verdict,
    ) -> Completion<Result<(), TransportError>> {
        if let Verdict::Nak {
            message,
            attempt,
            delay,
        } = verdict
        {
            // Beyond the last attempt the message is given up, which nobody waits to hear.
            self.put_back(message, attempt.saturating_add(1), delay);
        }
        Completion::ready(Ok(()))
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

/// Hands out what a feed has. Dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct FeedSource(pub(crate) Arc<Feed>);

impl Source for FeedSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        self.0.poll(cx, batch, max.max(1), &self.0)
    }

    fn stop(&mut self) {
        Arc::clone(&self.0).stop();
    }
}

impl Drop for FeedSource {
    fn drop(&mut self) {
        self.0.close();
    }
}
