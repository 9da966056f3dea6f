//! A member of a queue on the server.
//!
//! A queue is a stream with one consumer group: what a publisher puts in stays until a member has
//! settled it. A member takes as much as it may hold unsettled and no more, so that the others
//! have the rest; one that nobody has read from yet takes nothing at all.
//!
//! Queues of durable names outlive their members. All others end with the last of them, and then
//! nobody is left to answer: whoever waits for an answer is told.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use agentbus_protocol::{Subject, Text};
use agentbus_transport::remote::{self, Drain, Hand, amb};
use agentbus_transport::{
    Message, QueueStats, Received, Source, Subscribe, TransportError, limits as common,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::joining::Plan;
use crate::limits;
use crate::link::Link;
use crate::reader;

pub(crate) struct Member {
    pub(crate) link: Arc<Link>,
    pub(crate) plan: Plan,
    /// How long a delivery may stay unsettled; `None` for as long as the client lives.
    pub(crate) lease: Option<Duration>,
    pub(crate) attempts_max: u32,
    pub(crate) dead_letters: Text,
    pub(crate) number: u64,
    prefetch: usize,
    state: Mutex<State>,
    /// Signals that there may be room.
    changed: Notify,
    /// Ends the taking of more.
    pub(crate) stopped: CancellationToken,
    /// Ends everything.
    pub(crate) dropped: CancellationToken,
    /// Signals that the server knows of the end.
    left: CancellationToken,
}

#[derive(Default)]
struct State {
    hand: Hand<Taken>,
    /// Decided about, and the server has not heard it yet.
    settling: HashSet<String>,
}

/// A message that the server gave to this member.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) entry: String,
    pub(crate) attempt: u32,
    /// Its number in the log; 0 when it is in none.
    pub(crate) sequence: u64,
    pub(crate) message: Arc<Message>,
}

impl remote::Taken for Taken {
    fn message(&self) -> &Arc<Message> {
        &self.message
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn sequence(&self) -> Option<u64> {
        (self.sequence > 0).then_some(self.sequence)
    }
}

impl Member {
    /// Joins the queue of a subscription; every later publish reaches it when this returns.
    pub(crate) async fn open(
        link: &Arc<Link>,
        request: Subscribe,
    ) -> Result<MemberSource, TransportError> {
        let number = link.number();
        let plan = Plan::new(&request, &link.desk().client, number)?;
        link.leaving()
            .wait(&plan.queue, limits::READY_TIMEOUT)
            .await;
        plan.join(link.desk()).await?;
        let lease = request
            .lease
            .or(plan.durable.as_ref().map(|_| common::LEASE));
        let member = Arc::new(Self {
            link: Arc::clone(link),
            plan,
            lease: lease.map(|lease| lease.min(common::LEASE_MAX)),
            attempts_max: request.max_attempts.unwrap_or(common::ATTEMPTS_MAX).max(1),
            dead_letters: request.dead_letters,
            number,
            prefetch: request
                .prefetch
                .min(request.capacity)
                .clamp(1, limits::PREFETCH_MAX),
            state: Mutex::default(),
            changed: Notify::new(),
            stopped: CancellationToken::new(),
            dropped: CancellationToken::new(),
            left: CancellationToken::new(),
        });
        let seen: Weak<dyn Drain> = Arc::downgrade(&member) as _;
        let source = MemberSource(Arc::clone(&member));
        link.spawn_lasting(reader::run(Arc::clone(&member)));
        link.enter(number, seen)?;
        link.enter_member(number, Arc::downgrade(&member));
        Ok(source)
    }

    /// Joins once more, after the server has forgotten this member.
    pub(crate) async fn join_again(&self) -> Result<(), TransportError> {
        self.plan.again().join(self.link.desk()).await
    }

    pub(crate) const fn left(&self) -> &CancellationToken {
        &self.left
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.plan.durable.is_some()
    }

    /// Waits until it may take more, and returns how much.
    pub(crate) async fn room(&self) -> usize {
        loop {
            let changed = self.changed.notified();
            if let room @ 1.. = self.room_now() {
                return room;
            }
            changed.await;
        }
    }

    pub(crate) fn room_now(&self) -> usize {
        let hand = &self.state.lock().hand;
        if hand.is_wanted() {
            self.prefetch
                .saturating_sub(hand.ready.len() + hand.held.len())
        } else {
            0
        }
    }

    /// Puts in what the server gave.
    pub(crate) fn put(&self, taken: Vec<Taken>) {
        let hand = &mut self.state.lock().hand;
        taken.into_iter().for_each(|taken| hand.put(taken));
    }

    /// Takes back what nobody has looked at.
    pub(crate) fn take_back(&self) -> Vec<Taken> {
        self.state.lock().hand.take_back()
    }

    /// Whether this member knows of a delivery.
    pub(crate) fn knows(&self, entry: &str) -> bool {
        let state = self.state.lock();
        let in_hand = state.hand.ready.iter().chain(state.hand.held.values());
        in_hand
            .map(|taken| &taken.entry)
            .any(|known| known == entry)
            || state.settling.contains(entry)
    }

    /// Says that nothing more will come.
    pub(crate) fn end_taking(&self) {
        self.state.lock().hand.end();
        self.link.note_drained();
    }

    /// What a verdict is about; ends the delivery unless it is only looked at.
    pub(crate) fn held(&self, token: u128, ends: bool) -> Option<Taken> {
        let mut state = self.state.lock();
        if !ends {
            return state.hand.held.get(&token).cloned();
        }
        let held = state.hand.held.remove(&token);
        state
            .settling
            .extend(held.as_ref().map(|held| held.entry.clone()));
        drop(state);
        self.changed.notify_one();
        held
    }

    /// Says that the server has heard a verdict, or never will.
    pub(crate) fn settled(&self, entry: &str) {
        self.state.lock().settling.remove(entry);
    }

    /// Where the one waits who asked for an answer, when nobody else has the request.
    pub(crate) fn asker(&self, message: &Message) -> Option<Subject> {
        if self.is_durable() {
            return None;
        }
        message.asker()
    }

    /// Tells the caller that its request will not be answered: as an error reply, which any peer
    /// understands, marked for those who know the difference.
    pub(crate) async fn lose(&self, request: &Message, inbox: Subject) {
        let channel = self.link.inbox().channel_of(inbox.as_str());
        let data = amb::encode_lost(&request.envelope, inbox);
        self.link.tell(channel, data).await;
    }

    fn poll(
        self: &Arc<Self>,
        cx: &Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let settle = Arc::clone(self) as _;
        let handed = self.state.lock().hand.poll(cx, batch, max, &settle);
        if handed.wants_more {
            self.changed.notify_one();
        }
        for taken in handed.expired {
            self.forget(taken.entry);
        }
        if handed.is_drained {
            self.link.note_drained();
        }
        handed.count
    }
}

impl Drain for Member {
    fn stop(self: Arc<Self>) {
        self.stopped.cancel();
    }

    fn is_drained(&self) -> bool {
        self.state.lock().hand.is_drained()
    }

    fn end(&self) -> usize {
        let mut state = self.state.lock();
        let left = state.hand.ready.len();
        state.hand.end();
        drop(state);
        self.stopped.cancel();
        self.dropped.cancel();
        // What a durable name leaves is not given up; it waits at the server.
        if self.is_durable() { 0 } else { left }
    }

    fn stats(&self) -> QueueStats {
        let route = &self.plan.route;
        let hand = &self.state.lock().hand;
        hand.stats(&route.pattern, route.group.as_deref(), self.prefetch)
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("queue", &self.plan.queue)
            .field("consumer", &self.plan.consumer)
            .finish_non_exhaustive()
    }
}

/// Hands out what a member has. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct MemberSource(Arc<Member>);

impl Source for MemberSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        self.0.poll(cx, batch, max)
    }

    fn stop(&mut self) {
        self.0.stopped.cancel();
    }
}

impl Drop for MemberSource {
    fn drop(&mut self) {
        let member = &self.0;
        // Begun here, so that whoever joins next knows of it.
        member.link.leaving().begin(&member.plan.queue);
        member.stopped.cancel();
        member.dropped.cancel();
        let (link, queue) = (Arc::clone(&member.link), member.plan.queue.clone());
        let left = member.left().clone();
        member.link.spawn_lasting(async move {
            left.cancelled().await;
            link.leaving().end(&queue);
        });
    }
}
