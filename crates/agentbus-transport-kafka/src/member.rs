//! A member of a durable name, or a replay: what it has taken from the log and not settled.
//!
//! Members of one name share its events through a [`Ledger`](crate::ledger): each takes as much as
//! it may hold unsettled and no more, so that the others have the rest; one that nobody has read
//! from yet takes nothing. A replay shares nothing with anybody, so its ledger needs no record.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use agentbus_protocol::{Pattern, Text};
use agentbus_transport::clock::millis;
use agentbus_transport::remote::{self, Drain, Hand};
use agentbus_transport::{
    Message, QueueStats, Received, Source, Subscribe, TransportError, limits as common,
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
    hand: Hand<Taken>,
    /// Asked for; the answer is in the order of steps.
    asked: HashSet<i64>,
}

/// A message that is this member's.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) number: i64,
    pub(crate) attempt: u32,
    pub(crate) message: Arc<Message>,
    /// Handed out, and somebody else may have the message by now.
    pub(crate) lost: bool,
}

impl remote::Taken for Taken {
    fn message(&self) -> &Arc<Message> {
        &self.message
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn sequence(&self) -> Option<u64> {
        u64::try_from(self.number).ok()
    }
}

impl Member {
    /// A member that does not know yet where it begins.
    pub(crate) fn new(link: &Arc<Link>, number: u64, plan: Plan) -> Arc<Self> {
        let id = link.member_id(number);
        Arc::new(Self {
            link: Arc::clone(link),
            number,
            plan,
            state: Mutex::new(State::new(Ledger::new(id.clone(), 0))),
            id,
            changed: Notify::new(),
            stopped: CancellationToken::new(),
            dropped: CancellationToken::new(),
            left: CancellationToken::new(),
        })
    }

    /// Begins with the event `next`.
    pub(crate) fn begin(&self, next: i64) {
        self.state.lock().ledger = Ledger::new(self.id.clone(), next);
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
        if !state.hand.is_wanted() {
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
        let hand = &state.hand;
        let held = hand.held.values().filter(|held| !held.lost).count();
        let taken = held + hand.ready.len() + state.asked.len();
        self.plan.prefetch.saturating_sub(taken)
    }

    /// How long nothing becomes free by itself.
    pub(crate) fn pause(&self) -> Duration {
        let state = self.state.lock();
        let now = self.link.broker_time();
        if !state.hand.is_wanted() || self.room(&state) == 0 {
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
        self.state.lock().hand.end();
        self.link.note_drained();
    }

    /// What the others are told when it goes.
    pub(crate) fn farewell(&self) -> Step {
        let mut state = self.state.lock();
        state.hand.end();
        let ready = state.hand.take_back();
        let ready = ready.iter().map(|taken| taken.number);
        let untried = ready.chain(state.asked.drain()).collect();
        let but = state.hand.held.values().map(|held| held.number).collect();
        Step::Leave {
            who: self.id.clone(),
            but,
            untried,
        }
    }

    /// What a verdict is about; ends the delivery unless it is only looked at.
    pub(crate) fn held(&self, token: u128, ends: bool) -> Option<Taken> {
        let mut state = self.state.lock();
        if !ends {
            return state.hand.held.get(&token).cloned();
        }
        let held = state.hand.held.remove(&token);
        drop(state);
        self.changed.notify_one();
        held
    }

    /// Hands out no further attempt at a message that is done with, though its lease had ended.
    pub(crate) fn finished(&self, number: i64) {
        let hand = &mut self.state.lock().hand;
        hand.ready.retain(|taken| taken.number != number);
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
            self.forget(taken.number);
        }
        if handed.is_drained {
            self.link.note_drained();
        }
        handed.count
    }
}

impl State {
    fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            hand: Hand::default(),
            asked: HashSet::new(),
        }
    }

    /// Acts on what a step means to us. Returns a message that has used up its attempts.
    fn take(&mut self, effect: Effect, attempts_max: u32) -> Option<(Taken, Cause)> {
        match effect {
            Effect::Missed { number } => {
                self.asked.remove(&number);
            }
            Effect::Settled { number } => self.hand.ready.retain(|taken| taken.number != number),
            Effect::Lost { number, attempt } => {
                let is_it = |taken: &Taken| taken.number == number && taken.attempt == attempt;
                self.hand.ready.retain(|taken| !is_it(taken));
                for held in self.hand.held.values_mut().filter(|held| is_it(held)) {
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
                    lost: false,
                };
                if attempt > attempts_max {
                    return Some((taken, cause));
                }
                self.hand.put(taken);
            }
        }
        None
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
        self.state.lock().hand.end();
        self.stopped.cancel();
        self.dropped.cancel();
        // What it leaves is not given up; it waits in the log.
        0
    }

    fn stats(&self) -> QueueStats {
        let (plan, pattern) = (&self.plan, self.plan.pattern.to_string());
        let hand = &self.state.lock().hand;
        hand.stats(&pattern, plan.group.as_deref(), plan.prefetch)
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
        self.0.poll(cx, batch, max)
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
