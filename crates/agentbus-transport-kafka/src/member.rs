//! A member of a durable name, or a replay: what it has taken from the log and not settled.
//!
//! Members of one name share its events through a [`Ledger`](crate::ledger): each takes as much as
//! it may hold unsettled and no more, so that the others have the rest; one that nobody has read
//! from yet takes nothing. A replay shares nothing with anybody, so its ledger needs no record.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use agentbus_protocol::{Pattern, Text};
use agentbus_transport::clock::millis;
use agentbus_transport::remote::Drain;
use agentbus_transport::{
    Delivery, Message, QueueStats, Received, Source, Subscribe, TransportError, limits as common,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Cause, Effect, Ledger, Step, Turn};
use crate::limits;
use crate::link::Link;

/// What a member is part of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The durable name; `None` for a replay.
    pub(crate) name: Option<String>,
    pub(crate) pattern: Pattern,
    pub(crate) group: Option<String>,
    /// How long a delivery may stay unsettled; `None` for as long as the client lives.
    pub(crate) lease: Option<Duration>,
    pub(crate) attempts_max: u32,
    pub(crate) dead_letters: Text,
    prefetch: usize,
}

impl Plan {
    pub(crate) fn of(request: &Subscribe) -> Self {
        let text = |text: &Text| text.as_str().to_owned();
        let attempts = request.max_attempts.unwrap_or(common::ATTEMPTS_MAX);
        Self {
            name: request.durable.as_ref().map(text),
            pattern: request.pattern.clone(),
            group: request.group.as_ref().map(text),
            lease: request.lease.map(|lease| lease.min(common::LEASE_MAX)),
            attempts_max: attempts.clamp(1, common::ATTEMPTS_MAX),
            dead_letters: request.dead_letters.clone(),
            prefetch: request.prefetch.clamp(1, limits::PREFETCH_MAX),
        }
    }
}

pub(crate) struct Member {
    pub(crate) link: Arc<Link>,
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) plan: Plan,
    state: Mutex<State>,
    /// Signals that there may be something to do.
    pub(crate) changed: Notify,
    /// Ends the taking of more.
    pub(crate) stopped: CancellationToken,
    /// Ends everything.
    pub(crate) dropped: CancellationToken,
    /// Signals that the others know of the end.
    pub(crate) left: CancellationToken,
}

struct State {
    ledger: Ledger,
    /// Won and not handed out.
    ready: VecDeque<Taken>,
    /// Handed out and not settled.
    held: HashMap<u64, Held>,
    /// Asked for; the answer is in the order of steps.
    asked: HashSet<i64>,
    tokens: u64,
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

/// A message that is this member's.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) number: i64,
    pub(crate) attempt: u32,
    pub(crate) message: Arc<Message>,
}

/// What is known of a delivery in somebody's hands.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) taken: Taken,
    /// Somebody else may have the message.
    pub(crate) lost: bool,
}

impl Member {
    /// A member that begins with the event `next`.
    pub(crate) fn new(link: &Arc<Link>, number: u64, plan: Plan, next: i64) -> Arc<Self> {
        let id = link.member_id(number);
        Arc::new(Self {
            link: Arc::clone(link),
            number,
            plan,
            state: Mutex::new(State::new(Ledger::new(id.clone(), next))),
            id,
            changed: Notify::new(),
            stopped: CancellationToken::new(),
            dropped: CancellationToken::new(),
            left: CancellationToken::new(),
        })
    }

    /// Takes an event in.
    pub(crate) fn add(&self, number: i64, message: Option<Arc<Message>>) {
        self.state
            .lock()
            .ledger
            .add(number, message, Instant::now());
    }

    /// Takes a step in. Returns messages that have used up their attempts.
    pub(crate) fn apply(&self, at: i64, time: i64, step: Step) -> Vec<(Taken, Cause)> {
        let mut state = self.state.lock();
        let effects = state.ledger.apply(at, time, step, Instant::now());
        let mut dead = Vec::new();
        for effect in effects {
            dead.extend(state.take(effect, self.plan.attempts_max));
        }
        drop(state);
        self.changed.notify_one();
        dead
    }

    /// Chooses what to claim, given which of how many members this is.
    pub(crate) fn choose(&self, rank: usize, members: usize) -> Option<Step> {
        let mut state = self.state.lock();
        if !state.wanted || state.ended {
            return None;
        }
        let turn = Turn {
            now: self.link.broker_time(),
            here: Instant::now(),
            rank,
            members,
            patience: limits::STEAL_DELAY,
            room: self.room(&state).min(limits::CLAIM_BATCH),
        };
        let of = state.ledger.choose(turn);
        let of: Vec<_> = of
            .into_iter()
            .filter(|(number, _)| !state.asked.contains(number))
            .collect();
        if of.is_empty() {
            return None;
        }
        state.asked.extend(of.iter().map(|(number, _)| *number));
        let (member, lease) = (self.id.clone(), self.plan.lease.map(millis));
        Some(Step::Claim { member, of, lease })
    }

    /// Says that a claim was never heard.
    pub(crate) fn unask(&self, step: &Step) {
        if let Step::Claim { of, .. } = step {
            let mut state = self.state.lock();
            of.iter().for_each(|(number, _)| {
                state.asked.remove(number);
            });
        }
    }

    /// How many more messages it may hold.
    fn room(&self, state: &State) -> usize {
        let held = state.held.values().filter(|held| !held.lost).count();
        let taken = held + state.ready.len() + state.asked.len();
        self.plan.prefetch.saturating_sub(taken)
    }

    /// How long nothing becomes free by itself.
    pub(crate) fn pause(&self) -> Duration {
        let state = self.state.lock();
        let now = self.link.broker_time();
        if !state.wanted || state.ended || self.room(&state) == 0 {
            return limits::LOOK_INTERVAL_MAX;
        }
        let due = state.ledger.next_due(now);
        let pause = due.map(|due| Duration::from_millis(due.saturating_sub(now).unsigned_abs()));
        pause.map_or(limits::LOOK_INTERVAL_MAX, |pause| {
            pause.clamp(limits::STEAL_DELAY, limits::LOOK_INTERVAL_MAX)
        })
    }

    /// Looks at the ledger.
    pub(crate) fn ledger<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(&mut self.state.lock().ledger)
    }

    /// Says that nothing more will come.
    pub(crate) fn end_taking(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.wake();
        drop(state);
        self.link.note_drained();
    }

    /// What the others are told when it goes.
    pub(crate) fn farewell(&self) -> Step {
        let mut state = self.state.lock();
        state.ended = true;
        let ready: Vec<_> = state.ready.drain(..).map(|taken| taken.number).collect();
        let untried = ready.into_iter().chain(state.asked.drain()).collect();
        let but = state.held.values().map(|held| held.taken.number).collect();
        Step::Leave {
            who: self.id.clone(),
            but,
            untried,
        }
    }

    /// What a verdict is about; ends the delivery unless it is only looked at.
    pub(crate) fn held(&self, token: u64, ends: bool) -> Option<Held> {
        let mut state = self.state.lock();
        if !ends {
            return state.held.get(&token).cloned();
        }
        let held = state.held.remove(&token);
        drop(state);
        self.changed.notify_one();
        held
    }

    /// Hands out no further attempt at a message that is done with, though its lease had ended.
    pub(crate) fn finished(&self, number: i64) {
        self.state
            .lock()
            .ready
            .retain(|taken| taken.number != number);
    }

    fn poll(
        self: &Arc<Self>,
        cx: &Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let mut state = self.state.lock();
        if !state.wanted {
            state.wanted = true;
            self.changed.notify_one();
        }
        if state.ready.is_empty() {
            if state.ended {
                return Poll::Ready(0);
            }
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = max.min(state.ready.len());
        let taken: Vec<_> = state.ready.drain(..count).collect();
        for taken in taken {
            batch.push(self.hand_out(&mut state, taken));
        }
        let drained = state.is_drained();
        drop(state);
        if drained {
            self.link.note_drained();
        }
        Poll::Ready(count)
    }

    fn hand_out(self: &Arc<Self>, state: &mut State, taken: Taken) -> Received {
        let number = u64::try_from(taken.number).unwrap_or_default();
        let delivery = Delivery::new(Arc::clone(&taken.message), taken.attempt).numbered(number);
        if taken.message.is_expired() {
            state.counts.expired += 1;
            self.forget(taken.number);
            return Received::Expired(delivery);
        }
        state.counts.delivered += 1;
        state.tokens += 1;
        let token = state.tokens;
        let held = Held { taken, lost: false };
        state.held.insert(token, held);
        Received::Live(delivery.settled_by(Arc::clone(self) as _, token))
    }
}

impl State {
    fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            ready: VecDeque::new(),
            held: HashMap::new(),
            asked: HashSet::new(),
            tokens: 0,
            receiver: None,
            wanted: false,
            ended: false,
            counts: Counts::default(),
        }
    }

    /// Acts on what a step means to us. Returns a message that has used up its attempts.
    fn take(&mut self, effect: Effect, attempts_max: u32) -> Option<(Taken, Cause)> {
        match effect {
            Effect::Missed { number } => {
                self.asked.remove(&number);
            }
            Effect::Settled { number } => self.ready.retain(|taken| taken.number != number),
            Effect::Lost { number, attempt } => {
                let is_it = |taken: &Taken| taken.number == number && taken.attempt == attempt;
                self.ready.retain(|taken| !is_it(taken));
                for held in self.held.values_mut().filter(|held| is_it(&held.taken)) {
                    held.lost = true;
                }
            }
            Effect::Won { number, attempt } => {
                self.asked.remove(&number);
                let (message, cause) = self.ledger.message(number)?;
                let taken = Taken {
                    number,
                    attempt,
                    message,
                };
                if attempt > attempts_max {
                    return Some((taken, cause));
                }
                self.counts.redelivered += u64::from(attempt > 1);
                self.ready.push_back(taken);
                self.wake();
            }
        }
        None
    }

    fn is_drained(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    fn wake(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }
}

impl Drain for Member {
    fn stop(self: Arc<Self>) {
        self.stopped.cancel();
    }

    fn is_drained(&self) -> bool {
        self.state.lock().is_drained()
    }

    fn end(&self) -> usize {
        let mut state = self.state.lock();
        state.ended = true;
        state.wake();
        drop(state);
        self.stopped.cancel();
        self.dropped.cancel();
        // What it leaves is not given up; it waits in the log.
        0
    }

    fn stats(&self) -> QueueStats {
        let state = self.state.lock();
        QueueStats {
            pattern: self.plan.pattern.to_string(),
            group: self.plan.group.clone(),
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
            .field("id", &self.id)
            .field("name", &self.plan.name)
            .finish_non_exhaustive()
    }
}

/// Hands out what a member has. Dropping it takes no part any more.
#[derive(Debug)]
pub(crate) struct MemberSource(pub(crate) Arc<Member>);

impl Source for MemberSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        self.0.poll(cx, batch, max.max(1))
    }

    fn stop(&mut self) {
        self.0.stopped.cancel();
    }
}

impl Drop for MemberSource {
    fn drop(&mut self) {
        let member = &self.0;
        member.link.table.leave(&member.id);
        member.link.leave(member.number);
        if let Some(name) = member.plan.name.clone() {
            // Begun here, so that whoever joins next knows of it.
            member.link.leaving.begin(&name);
            let (link, left) = (Arc::clone(&member.link), member.left.clone());
            member.link.spawn_lasting(async move {
                left.cancelled().await;
                link.leaving.end(&name);
            });
        }
        member.stopped.cancel();
        member.dropped.cancel();
    }
}

/// A durable name that cannot be used like this.
pub(crate) fn misuse(name: &str, reason: String) -> TransportError {
    TransportError::Durable {
        name: name.to_owned(),
        reason,
    }
}
