//! A member of those who take messages from one consumer.
//!
//! A member takes as much as it may hold unsettled and no more, so that the others have the rest.
//! One that shares its consumer takes nothing before somebody reads from it: what it had taken
//! ahead would have to be given back, and counts as an attempt by then.
//!
//! What was taken and waits here is kept from going to somebody else: its lease begins when it is
//! handed out. See [`super::puller`] for the task that takes and keeps.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agentbus_protocol::{Subject, Text};
use agentbus_transport::{
    Completion, Delivery, Message, QueueStats, Received, Source, Subscribe, Subscription,
    TransportError, limits as common,
};
use async_nats::Subscriber;
use async_nats::jetstream::AckKind;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::link::Drain;

use super::consumer::{self, Plan, Sharing};
use super::history::History;
use super::puller;
use super::store::Store;

pub(super) struct Member {
    pub(super) store: Arc<Store>,
    pub(super) plan: Plan,
    /// Where what was asked for arrives.
    pub(super) inbox: String,
    pub(super) attempts_max: u32,
    pub(super) dead_letters: Text,
    pub(super) history: History,
    number: AtomicU64,
    state: Mutex<State>,
    /// Signals that there may be room, or something to keep.
    pub(super) changed: Notify,
    /// Ends the taking of more.
    pub(super) stopped: CancellationToken,
    /// Nobody reads any more.
    pub(super) dropped: CancellationToken,
    /// What was taken ahead is given back.
    pub(super) left: CancellationToken,
}

#[derive(Default)]
struct State {
    /// `None` once the member has left it.
    channel: Option<Subscriber>,
    /// Taken from the server and not handed out.
    ready: VecDeque<Taken>,
    /// Handed out and not settled.
    held: HashMap<u128, Held>,
    /// How many of them are still this member's to decide about.
    leased: usize,
    /// Verdicts that the connection does not have yet.
    saying: usize,
    /// Asked for and not arrived.
    asked: usize,
    tokens: u128,
    receiver: Option<Waker>,
    /// Whether anybody has read from it yet.
    wanted: bool,
    /// Nothing more will be taken.
    ended: bool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: u64,
    expired: u64,
    redelivered: u64,
}

/// A message that the server gave to this member.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    /// Its number in the stream.
    pub(super) sequence: u64,
    pub(super) attempt: u32,
    /// Where the stream wants to hear what became of it.
    pub(super) reply: async_nats::Subject,
    pub(super) message: Arc<Message>,
    /// When the stream last began to count its lease.
    pub(super) touched: Instant,
}

/// A delivery in somebody's hands.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) taken: Taken,
    /// When its lease ends.
    until: Instant,
    /// Whether it was extended, so that the stream has to be told again and again.
    extended: bool,
    /// Whether it may be somebody else's by now. It can still be acknowledged, and nothing else.
    pub(super) ended: bool,
}

/// What the passing of time asks for.
#[derive(Debug, Default)]
pub(super) struct Chores {
    /// Deliveries whose lease at the stream begins anew.
    pub(super) touch: Vec<async_nats::Subject>,
    /// Deliveries that nobody settled in their last attempt.
    pub(super) bury: Vec<Taken>,
}

/// Subscribes to what the stream keeps; when this returns, the consumer exists.
pub(super) async fn open(
    store: &Arc<Store>,
    request: Subscribe,
) -> Result<Subscription, TransportError> {
    let plan = Plan::new(store, &request).await?;
    if let (Sharing::Group, Some(group)) = (plan.sharing, &request.group) {
        consumer::check_group(store, group, &plan).await?;
    }
    let place = consumer::claim(store, &plan)?;
    store.leaving.wait(plan.name()).await;
    consumer::open(store, &plan).await?;
    if plan.has_one_user() {
        consumer::wait_until_alone(store, &plan).await?;
    }
    let inbox = store.link.client().new_inbox();
    let channel = store.link.client().subscribe(inbox.clone()).await;
    let channel = channel.map_err(|error| store.failed(error))?;
    let member = Arc::new(Member {
        store: Arc::clone(store),
        inbox,
        attempts_max: request.max_attempts.unwrap_or(common::ATTEMPTS_MAX).max(1),
        dead_letters: request.dead_letters,
        history: History::default(),
        number: AtomicU64::new(0),
        state: Mutex::new(State {
            channel: Some(channel),
            wanted: plan.sharing == Sharing::Alone,
            ..State::default()
        }),
        changed: Notify::new(),
        stopped: CancellationToken::new(),
        dropped: CancellationToken::new(),
        left: CancellationToken::new(),
        plan,
    });
    let seen: Weak<dyn Drain> = Arc::downgrade(&member) as _;
    let number = store.link.enter(seen)?;
    member.number.store(number, Ordering::Relaxed);
    store.link.spawn(puller::run(Arc::clone(&member)));
    Ok(Subscription::new(MemberSource {
        member,
        _place: place,
    }))
}

impl Member {
    /// How long the stream leaves a delivery to whom it gave it.
    pub(super) const fn lease(&self) -> Duration {
        self.plan.config.ack_wait
    }

    /// Takes what arrived, or waits for it; ready with nothing when nothing more can arrive.
    pub(super) fn poll_arrived(&self, cx: &mut Context<'_>) -> Poll<Vec<async_nats::Message>> {
        let mut state = self.state.lock();
        let Some(channel) = &mut state.channel else {
            return Poll::Ready(Vec::new());
        };
        let mut arrived = Vec::new();
        while arrived.len() < limits::TAKEN_AT_ONCE {
            match Pin::new(&mut *channel).poll_next(cx) {
                Poll::Ready(Some(raw)) => arrived.push(raw),
                Poll::Ready(None) => {
                    state.channel = None;
                    break;
                }
                Poll::Pending if arrived.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(arrived)
    }

    /// How many messages to ask for now. One question is open at a time, so that what comes never
    /// exceeds what may be held.
    pub(super) fn room(&self) -> usize {
        let mut state = self.state.lock();
        if state.asked > 0 || !state.wanted || state.channel.is_none() {
            return 0;
        }
        let room = self
            .plan
            .prefetch
            .saturating_sub(state.ready.len() + state.leased);
        state.asked = room;
        room
    }

    /// Whether something was asked for that has not arrived.
    pub(super) fn is_asking(&self) -> bool {
        self.state.lock().asked > 0
    }

    /// Whether there is anything whose lease must be watched.
    pub(super) fn has_leases(&self) -> bool {
        let state = self.state.lock();
        state.leased + state.ready.len() > 0
    }

    /// Notes that some of what was asked for arrived, or never will.
    pub(super) fn arrived(&self, count: usize) {
        let mut state = self.state.lock();
        state.asked = state.asked.saturating_sub(count);
    }

    /// Notes that a question is over. The server says how much of it is left unanswered; without
    /// that, nothing of it is expected any more.
    pub(super) fn question_is_over(&self) {
        self.state.lock().asked = 0;
    }

    /// Puts in what the server gave. An older delivery of the same message is over with that.
    pub(super) fn put(&self, taken: Vec<Taken>) {
        let mut state = self.state.lock();
        for one in taken {
            if one.attempt > 1 {
                state.end_older(one.sequence);
                state.counts.redelivered += 1;
            }
            state.ready.push_back(one);
        }
        state.wake();
    }

    /// Takes back what nobody has looked at.
    pub(super) fn take_back(&self) -> Vec<Taken> {
        self.state.lock().ready.drain(..).collect()
    }

    /// Whether anything can still arrive.
    pub(super) fn is_listening(&self) -> bool {
        self.state.lock().channel.is_some()
    }

    /// Hears nothing more.
    pub(super) fn close_channel(&self) {
        drop(self.state.lock().channel.take());
    }

    /// Says that nothing more will come.
    pub(super) fn end_taking(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.wake();
        drop(state);
        self.store.link.note_drained();
    }

    /// Looks at all leases.
    pub(super) fn look(&self, now: Instant) -> Chores {
        let (mut chores, third) = (Chores::default(), self.lease() / 3);
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for one in &mut state.ready {
            if now >= one.touched + third {
                one.touched = now;
                chores.touch.push(one.reply.clone());
            }
        }
        for held in state.held.values_mut().filter(|held| !held.ended) {
            if now >= held.until {
                held.ended = true;
                state.leased -= 1;
                if held.taken.attempt >= self.attempts_max {
                    chores.bury.push(held.taken.clone());
                }
            } else if held.extended && now >= held.taken.touched + third {
                held.taken.touched = now;
                chores.touch.push(held.taken.reply.clone());
            }
        }
        chores
    }

    /// Ends a delivery and returns it, for a verdict that is to be said.
    pub(super) fn end(self: &Arc<Self>, token: u128) -> Option<(Held, Saying)> {
        let mut state = self.state.lock();
        let held = state.held.remove(&token)?;
        state.leased -= usize::from(!held.ended);
        state.saying += 1;
        drop(state);
        self.changed.notify_one();
        Some((held, Saying(Arc::clone(self))))
    }

    /// Forgets a delivery that waits here, because its message was settled after all.
    pub(super) fn forget(&self, sequence: u64) {
        let mut state = self.state.lock();
        state.ready.retain(|taken| taken.sequence != sequence);
    }

    /// Gives a delivery a new lease. Says who it is, or that it is too late.
    pub(super) fn extend(&self, token: u128, lease: Duration) -> Option<Result<Taken, Subject>> {
        let mut state = self.state.lock();
        let held = state.held.get_mut(&token)?;
        let now = Instant::now();
        if held.ended || now >= held.until {
            return Some(Err(held.taken.message.subject.clone()));
        }
        held.until = now + lease.min(common::LEASE_MAX);
        held.taken.touched = now;
        held.extended = true;
        let taken = held.taken.clone();
        drop(state);
        self.changed.notify_one();
        Some(Ok(taken))
    }

    fn poll(
        self: &Arc<Self>,
        cx: &Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let mut state = self.state.lock();
        let first = !std::mem::replace(&mut state.wanted, true);
        if state.ready.is_empty() {
            if state.ended {
                return Poll::Ready(0);
            }
            state.receiver = Some(cx.waker().clone());
            drop(state);
            if first {
                self.changed.notify_one();
            }
            return Poll::Pending;
        }
        let count = max.min(state.ready.len());
        for _ in 0..count {
            if let Some(taken) = state.ready.pop_front() {
                batch.push(self.hand_out(&mut state, taken));
            }
        }
        let drained = state.is_drained();
        drop(state);
        // A lease has begun that has to be watched, or all that came had expired.
        self.changed.notify_one();
        if drained {
            self.store.link.note_drained();
        }
        Poll::Ready(count)
    }

    fn hand_out(self: &Arc<Self>, state: &mut State, mut taken: Taken) -> Received {
        let delivery = Delivery::new(Arc::clone(&taken.message), taken.attempt);
        // What somebody waits for is in the stream because it has such a subject, and not to be
        // read again.
        let delivery = match super::is_asked(&taken.message) {
            true => delivery,
            false => delivery.numbered(taken.sequence),
        };
        if taken.message.is_expired() {
            state.counts.expired += 1;
            self.say_soon(&taken.reply, AckKind::Term);
            return Received::Expired(delivery);
        }
        let now = Instant::now();
        if now >= taken.touched + self.lease() / limits::LOOKS_PER_LEASE {
            taken.touched = now;
            self.say_soon(&taken.reply, AckKind::Progress);
        }
        state.counts.delivered += 1;
        state.tokens += 1;
        state.leased += 1;
        let held = Held {
            taken,
            until: now + self.lease(),
            extended: false,
            ended: false,
        };
        state.held.insert(state.tokens, held);
        Received::Live(delivery.settled_by(Arc::clone(self) as _, state.tokens))
    }

    /// Asks for nothing more, in this very call, so that what is published next goes to others.
    /// What is on its way still arrives.
    fn leave(&self) {
        self.stopped.cancel();
        self.dropped.cancel();
        self.store.link.leave(self.number.load(Ordering::Relaxed));
        let nobody = &mut Context::from_waker(Waker::noop());
        let _ = self.poll_leave(nobody);
    }

    /// Leaves the channel, which then ends once what was on its way has arrived. Leaving twice is
    /// harmless.
    pub(super) fn poll_leave(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        state.wanted = false;
        let Some(channel) = &mut state.channel else {
            return Poll::Ready(());
        };
        let leaving = std::pin::pin!(channel.drain());
        leaving.poll(cx).map(drop)
    }

    /// Gives back what nobody has looked at, so that others need not wait for its lease to end.
    pub(super) fn give_back(&self) {
        for taken in self.take_back() {
            self.say_soon(&taken.reply, AckKind::Nak(None));
        }
    }
}

/// A verdict on its way to the connection. The member is not drained before: a close that went on
/// would hang up, the verdict would be lost, and the message would come again.
pub(super) struct Saying(Arc<Member>);

impl Saying {
    pub(super) fn until<T: Send + 'static>(self, said: Completion<T>) -> Completion<T> {
        let Completion::Waiting(saying) = said else {
            return said;
        };
        Completion::waiting(async move {
            let outcome = saying.await;
            drop(self);
            outcome
        })
    }
}

impl Drop for Saying {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.saying -= 1;
        let drained = state.is_drained();
        drop(state);
        if drained {
            self.0.store.link.note_drained();
        }
    }
}

impl State {
    /// Ends older deliveries of a message that was given out again.
    fn end_older(&mut self, sequence: u64) {
        self.ready.retain(|taken| taken.sequence != sequence);
        let older = self.held.values_mut();
        for held in older.filter(|held| held.taken.sequence == sequence && !held.ended) {
            held.ended = true;
            self.leased -= 1;
        }
    }

    fn is_drained(&self) -> bool {
        self.ended && self.ready.is_empty() && self.leased == 0 && self.saying == 0
    }

    fn wake(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }
}

impl Drain for Member {
    fn look(&self) -> bool {
        // A pull asks for no more than there is room for.
        false
    }

    fn stop(self: Arc<Self>) {
        self.stopped.cancel();
    }

    fn is_drained(&self) -> bool {
        self.state.lock().is_drained()
    }

    fn end(&self) -> usize {
        self.stopped.cancel();
        self.dropped.cancel();
        self.end_taking();
        // Whatever nobody received is still in the stream.
        self.give_back();
        0
    }

    fn stats(&self) -> QueueStats {
        let state = self.state.lock();
        QueueStats {
            pattern: self.plan.config.filter_subject.clone(),
            group: self.plan.group.as_ref().map(ToString::to_string),
            depth: state.ready.len(),
            capacity: self.plan.prefetch,
            delivered: state.counts.delivered,
            dropped: 0,
            expired: state.counts.expired,
            redelivered: state.counts.redelivered,
            stalled: 0,
        }
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("consumer", &self.plan.name())
            .finish_non_exhaustive()
    }
}

/// Hands out what a member has. Dropping it leaves the consumer.
#[derive(Debug)]
struct MemberSource {
    member: Arc<Member>,
    _place: consumer::Place,
}

impl Source for MemberSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        self.member.poll(cx, batch, max.max(1))
    }

    fn stop(&mut self) {
        self.member.stopped.cancel();
    }
}

impl Drop for MemberSource {
    fn drop(&mut self) {
        let member = &self.member;
        // Begun here, so that whoever joins next knows of it.
        member.store.leaving.begin(member.plan.name(), &member.left);
        member.leave();
        if member.plan.sharing == Sharing::Alone {
            consumer::remove(&member.store, member.plan.name());
        }
    }
}
