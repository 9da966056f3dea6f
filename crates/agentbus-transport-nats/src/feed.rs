//! The queue of one subscription.
//!
//! The client library puts what arrives into a channel and drops silently what does not fit. So
//! the channel is emptied at once into a queue of our own, which has the capacity and the policy
//! that the subscriber asked for and counts what it loses.
//!
//! Who empties it: the subscriber itself, whenever it looks, and it is woken directly by what
//! arrives while it waits. While it is busy the connection's caretaker looks every now and then,
//! far more often than the channel could fill up; see [`crate::link`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agentbus_protocol::{Pattern, Text};
use agentbus_transport::{Message, QueueStats, Subscribe, TransportError, limits as common};
use async_nats::Subscriber;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;

use crate::asker::Asker;
use crate::link::{Drain, Link};
use crate::{limits, publish};

/// What waits for a subscriber.
#[derive(Debug)]
pub(crate) enum Entry {
    /// As it came from the server.
    Arrived(async_nats::Message),
    /// Put back for another attempt.
    Again { message: Arc<Message>, attempt: u32 },
}

pub(crate) struct Feed {
    pub(crate) link: Arc<Link>,
    pub(crate) pattern: Pattern,
    pub(crate) group: Option<Text>,
    capacity: usize,
    number: AtomicU64,
    delivered: AtomicU64,
    expired: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The channel; `None` once the subscription has left it.
    channel: Option<Subscriber>,
    queue: VecDeque<Entry>,
    /// The subscriber, while it waits.
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
    /// Waits for what the server had sent before it heard of the end.
    Stopping,
    /// Only hands out what is in the queue.
    Ended,
}

#[derive(Debug, Default)]
struct Counts {
    dropped: u64,
    redelivered: u64,
}

impl Feed {
    /// Subscribes; when this returns, the server knows.
    pub(crate) async fn open(
        link: &Arc<Link>,
        request: Subscribe,
    ) -> Result<Arc<Self>, TransportError> {
        let subject = link.dialect().place(request.pattern.as_str()).into_owned();
        let subscribed = match &request.group {
            Some(group) => {
                let group = group.to_string();
                link.client().queue_subscribe(subject.clone(), group).await
            }
            None => link.client().subscribe(subject.clone()).await,
        };
        let channel = subscribed.map_err(|error| link.failed(error))?;
        let feed = Arc::new(Self {
            link: Arc::clone(link),
            pattern: request.pattern,
            group: request.group,
            capacity: request.capacity.clamp(1, common::QUEUE_CAPACITY_MAX),
            number: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            state: Mutex::new(State {
                channel: Some(channel),
                ..State::default()
            }),
        });
        let seen: Weak<dyn Drain> = Arc::downgrade(&feed) as _;
        feed.number.store(link.enter(seen)?, Ordering::Relaxed);
        if let Err(error) = link.ready(&subject).await {
            feed.close();
            return Err(error);
        }
        Ok(feed)
    }

    /// Takes up to `max` entries and the number of messages lost before them; ready with none
    /// when there will be no more.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        taken: &mut Vec<Entry>,
        max: usize,
    ) -> Poll<u64> {
        let mut lost = Vec::new();
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            state.receive(cx, self.capacity, &mut lost);
        }
        if state.queue.is_empty() && !state.is_over() {
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.receiver = None;
        let count = max.min(state.queue.len());
        taken.extend(state.queue.drain(..count));
        let missed = std::mem::take(&mut state.missed);
        let drained = state.is_drained();
        drop(state);
        self.give_up(lost);
        self.link.leave_to_caretaker();
        if drained {
            self.link.note_drained();
        }
        Poll::Ready(missed)
    }

    /// Gives up a wait: from now on the caretaker looks.
    pub(crate) fn stand_down(&self) {
        if self.state.lock().receiver.take().is_some() {
            self.link.leave_to_caretaker();
        }
    }

    /// Puts a message back for another attempt; says no when it will not be made.
    pub(crate) fn put_back(
        self: &Arc<Self>,
        message: Arc<Message>,
        attempt: u32,
        delay: Duration,
    ) -> bool {
        if attempt > common::ATTEMPTS_MAX || self.link.is_closed() {
            return false;
        }
        let entry = Entry::Again { message, attempt };
        if delay.is_zero() {
            self.state.lock().put_front(entry);
            return true;
        }
        self.state.lock().delayed += 1;
        let (feed, delay) = (Arc::clone(self), delay.min(common::NAK_DELAY_MAX));
        let over = self.link.over().clone();
        self.link.spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = tokio::time::sleep(delay) => {}
            }
            let mut state = feed.state.lock();
            state.delayed -= 1;
            state.put_front(entry);
        });
        true
    }

    /// Tells the callers among the lost messages that nobody will answer.
    fn give_up(&self, lost: Vec<Entry>) {
        if self.group.is_none() {
            // Others may have got the same message.
            return;
        }
        for entry in lost {
            let asker = match &entry {
                Entry::Arrived(raw) => Asker::of_raw(&self.link, raw),
                Entry::Again { message, .. } => Asker::of(&self.link, message),
            };
            if let Some(asker) = asker {
                asker.lose();
            }
        }
    }

    pub(crate) fn count(&self, live: usize, expired: usize) {
        self.delivered.fetch_add(live as u64, Ordering::Relaxed);
        self.expired.fetch_add(expired as u64, Ordering::Relaxed);
    }

    /// Ends the subscription for good, and with it whatever waits.
    pub(crate) fn close(self: &Arc<Self>) {
        self.link.leave(self.number.load(Ordering::Relaxed));
        let (left, channel) = self.end_now();
        self.give_up(left);
        if let (Some(channel), Some(_)) = (channel, &self.group) {
            self.decline(channel);
        }
    }

    /// Leaves a group and tells the callers of what was on its way here.
    ///
    /// It unsubscribes in this very call, so that what is published next goes to the other members.
    /// Not so with requests: the library forgets a subscription before all that was on its way has
    /// arrived, and a caller who is not told would wait. So the server answers first.
    fn decline(self: &Arc<Self>, mut channel: Subscriber) {
        let feed = Arc::clone(self);
        let mut declining = Box::pin(async move {
            if publish::is_call(feed.pattern.as_str()) {
                // When it does not answer, nothing of it is coming either.
                let _ = feed.link.echo(limits::STOP_TIMEOUT).await;
            }
            if channel.drain().await.is_ok() {
                while let Some(raw) = channel.next().await {
                    feed.give_up(vec![Entry::Arrived(raw)]);
                }
            }
        });
        let now = declining
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if now.is_pending() {
            self.link.spawn(async move {
                let _ = tokio::time::timeout(2 * limits::STOP_TIMEOUT, declining).await;
            });
        }
    }

    /// Takes nothing from now on. Returns what waited, and the channel.
    fn end_now(&self) -> (Vec<Entry>, Option<Subscriber>) {
        let mut lost = Vec::new();
        let mut state = self.state.lock();
        let nobody = &mut Context::from_waker(Waker::noop());
        state.receive(nobody, usize::MAX, &mut lost);
        state.phase = Phase::Ended;
        lost.extend(state.queue.drain(..));
        let channel = state.channel.take();
        state.wake_receiver();
        (lost, channel)
    }

    /// Takes no new messages once the server has delivered what was published before.
    async fn finish(self: Arc<Self>) {
        // When the server does not answer, what it had sent is not coming either.
        let _ = self.link.echo(limits::STOP_TIMEOUT).await;
        let channel = self.state.lock().channel.take();
        if let Some(mut channel) = channel {
            let rest = async {
                // The library keeps what is on its way for a moment longer than a plain end.
                if channel.drain().await.is_ok() {
                    while let Some(raw) = channel.next().await {
                        self.arrive_late(raw);
                    }
                }
            };
            let _ = tokio::time::timeout(limits::STOP_TIMEOUT, rest).await;
        }
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        state.wake_receiver();
        drop(state);
        self.link.note_drained();
    }

    fn arrive_late(&self, raw: async_nats::Message) {
        let mut lost = Vec::new();
        let mut state = self.state.lock();
        state.put(raw, self.capacity, &mut lost);
        state.wake_receiver();
        drop(state);
        self.give_up(lost);
    }

    /// Begins to stop; see [`agentbus_transport::Source::stop`].
    pub(crate) fn begin_stop(self: Arc<Self>) {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return;
        }
        state.phase = Phase::Stopping;
        drop(state);
        let link = Arc::clone(&self.link);
        link.spawn(self.finish());
    }
}

impl State {
    /// Empties the channel into the queue; whoever `cx` belongs to is woken by what comes next.
    fn receive(&mut self, cx: &mut Context<'_>, capacity: usize, lost: &mut Vec<Entry>) {
        while let Some(channel) = &mut self.channel {
            match Pin::new(channel).poll_next(cx) {
                Poll::Ready(Some(raw)) => self.put(raw, capacity, lost),
                Poll::Ready(None) => {
                    self.channel = None;
                    self.phase = Phase::Ended;
                }
                Poll::Pending => return,
            }
        }
    }

    /// Puts a message in. When there is no room the oldest goes: a publisher cannot be held back.
    fn put(&mut self, raw: async_nats::Message, capacity: usize, lost: &mut Vec<Entry>) {
        if self.queue.len() >= capacity {
            lost.extend(self.queue.pop_front());
            self.missed += 1;
            self.counts.dropped += 1;
        }
        self.queue.push_back(Entry::Arrived(raw));
    }

    fn put_front(&mut self, entry: Entry) {
        self.counts.redelivered += 1;
        self.queue.push_front(entry);
        self.wake_receiver();
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Ended && self.delayed == 0
    }

    fn is_drained(&self) -> bool {
        self.is_over() && self.queue.is_empty()
    }

    fn wake_receiver(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }
}

impl Drain for Feed {
    fn look(&self) -> bool {
        let mut lost = Vec::new();
        let mut state = self.state.lock();
        // A subscriber that waits is woken by what arrives, so long as nobody else registers.
        let busy = state.receiver.is_none() && state.phase != Phase::Ended;
        if busy {
            let nobody = &mut Context::from_waker(Waker::noop());
            state.receive(nobody, self.capacity, &mut lost);
        }
        drop(state);
        self.give_up(lost);
        busy
    }

    fn stop(self: Arc<Self>) {
        self.begin_stop();
    }

    fn is_drained(&self) -> bool {
        self.state.lock().is_drained()
    }

    fn end(&self) -> usize {
        let (left, _channel) = self.end_now();
        let count = left.len();
        self.give_up(left);
        count
    }

    fn stats(&self) -> QueueStats {
        let state = self.state.lock();
        QueueStats {
            pattern: self.pattern.to_string(),
            group: self.group.as_ref().map(ToString::to_string),
            depth: state.queue.len(),
            capacity: self.capacity,
            delivered: self.delivered.load(Ordering::Relaxed),
            dropped: state.counts.dropped,
            expired: self.expired.load(Ordering::Relaxed),
            redelivered: state.counts.redelivered,
            stalled: 0,
        }
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("pattern", &self.pattern)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
