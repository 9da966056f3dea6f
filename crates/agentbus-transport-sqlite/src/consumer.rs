//! One subscription that reads the log: its members, and the task that keeps them supplied.
//!
//! The task claims messages ahead of the members, as many as they would prefetch, begins attempts
//! that are due and buries what has used up its attempts. It sleeps until a commit, a verdict or a
//! deadline wakes it. Verdicts change the ledger at once and are written down after that, in their
//! order; so what the ledger says may be ahead of the disk and is never behind it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agentbus_protocol::{Pattern, Text};
use agentbus_transport::dead_letter::Death;
use agentbus_transport::stats::QueueStats;
use agentbus_transport::{
    Message, Subscribe, TransportError, dead_letter, limits as transport_limits,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cursors::{Cursors, LANES};
use crate::ledger::{Cause, Dead, Ledger, Policy, Taken};
use crate::limits;
use crate::queue::Work;
use crate::reader::{self, Fetched, Wanted};
use crate::record::Record;
use crate::store::Store;

/// A subscription and its members.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) identity: Identity,
    state: Mutex<State>,
    /// Wakes the task.
    wake: Notify,
    /// The first message that is still needed, for the writer to read without the lock.
    needed: AtomicU64,
    /// Ends the task.
    pub(crate) over: CancellationToken,
}

/// What a subscription is.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Its row and its name, if it outlives the process.
    pub(crate) durable: Option<(i64, Text)>,
    pub(crate) group: Option<Text>,
    pub(crate) pattern: Pattern,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) ledger: Ledger<Arc<Message>>,
    pub(crate) phase: Phase,
    /// Members that found nothing, the longest waiting first.
    waiting: VecDeque<(u64, Waker)>,
    /// The prefix of the dead letters.
    dead_letters: Text,
    /// Messages that could not be read, to be told with the next delivery.
    pub(crate) missed: u64,
    delivered: u64,
    redelivered: u64,
    expired: u64,
}

/// ## Open => Closing => Ended, or Open => Ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Gives out nothing any more; what members have in their hands can be settled.
    Closing,
    Ended,
}

/// How a subscription tries messages when nobody says otherwise.
pub(crate) fn policy(request: Option<&Subscribe>, durable: bool) -> Policy {
    let lease = request.and_then(|request| request.lease);
    let attempts = request.and_then(|request| request.max_attempts);
    Policy {
        lease: lease
            .or(durable.then_some(transport_limits::LEASE))
            .map(|lease| lease.min(transport_limits::LEASE_MAX)),
        attempts_max: attempts.unwrap_or(transport_limits::ATTEMPTS_MAX).max(1),
        retry_abandoned: durable || lease.is_some() || attempts.is_some(),
    }
}

impl Consumer {
    pub(crate) fn new(
        identity: Identity,
        ledger: Ledger<Arc<Message>>,
        over: CancellationToken,
    ) -> Self {
        Self {
            identity,
            needed: AtomicU64::new(ledger.needed()),
            state: Mutex::new(State {
                ledger,
                phase: Phase::Open,
                waiting: VecDeque::new(),
                dead_letters: Text::new_static(agentbus_protocol::subject::DEFAULT_PREFIX),
                missed: 0,
                delivered: 0,
                redelivered: 0,
                expired: 0,
            }),
            wake: Notify::new(),
            over,
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        let durable = self.identity.durable.as_ref();
        durable.map(|(_, name)| name.as_str())
    }

    pub(crate) const fn is_durable(&self) -> bool {
        self.identity.durable.is_some()
    }

    /// Its row; 0 for one that has none, whose work has no rows either.
    pub(crate) fn row(&self) -> i64 {
        self.identity.durable.as_ref().map_or(0, |(row, _)| *row)
    }

    pub(crate) const fn pattern(&self) -> &Pattern {
        &self.identity.pattern
    }

    pub(crate) fn needed(&self) -> u64 {
        self.needed.load(Ordering::Acquire)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Adds a member, which brings its policy; the newest counts for all.
    pub(crate) fn join(&self, member: u64, request: &Subscribe) {
        let mut state = self.lock();
        state
            .ledger
            .set_policy(policy(Some(request), self.is_durable()));
        state.ledger.join(member, request.prefetch);
        state.dead_letters.clone_from(&request.dead_letters);
        drop(state);
        self.wake.notify_one();
    }

    /// Lets the task look again.
    pub(crate) fn nudge(&self) {
        self.wake.notify_one();
    }

    /// Takes what is ready for a member, or has it woken when something is.
    pub(crate) fn poll_take(
        &self,
        member: u64,
        cx: &Context<'_>,
        max: usize,
    ) -> Poll<(Vec<Taken<Arc<Message>>>, u64)> {
        let mut state = self.lock();
        let first_lease = state.ledger.first_lease();
        let taken = match state.phase {
            Phase::Open => state.ledger.take(member, Instant::now(), max),
            Phase::Closing | Phase::Ended => Vec::new(),
        };
        if taken.is_empty() {
            let over = state.phase != Phase::Open || !state.ledger.may_wait(member);
            if over {
                return Poll::Ready((taken, 0));
            }
            state.wait(member, cx);
            return Poll::Pending;
        }
        state.waiting.retain(|(waiting, _)| *waiting != member);
        state.delivered += taken.len() as u64;
        state.redelivered += taken.iter().filter(|it| it.attempt > 1).count() as u64;
        let missed = std::mem::take(&mut state.missed);
        let next = state.next_waiting();
        // The task must know when the first lease ends.
        let sooner = state.ledger.first_lease() != first_lease;
        drop(state);
        wake(next);
        if sooner {
            self.wake.notify_one();
        }
        Poll::Ready((taken, missed))
    }

    /// Passes a wake-up that was meant for a member to the next.
    pub(crate) fn forget(&self, member: u64) {
        let mut state = self.lock();
        state.waiting.retain(|(waiting, _)| *waiting != member);
        let next = state.next_waiting();
        drop(state);
        wake(next);
    }

    /// Counts an expired message that a member was told of.
    pub(crate) fn count_expired(&self) {
        self.lock().expired += 1;
    }

    /// Gives out nothing any more and ends the task.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.phase = Phase::Closing;
        self.release(state);
        self.over.cancel();
    }

    /// Ends every member.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.phase = Phase::Ended;
        self.release(state);
        self.over.cancel();
    }

    fn release(&self, mut state: MutexGuard<'_, State>) {
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(crate) fn stats(&self, last: u64) -> QueueStats {
        let state = self.lock();
        let behind = last.saturating_sub(state.ledger.cursors().lowest());
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        QueueStats {
            pattern: self.identity.pattern.to_string(),
            group: self.name().map(str::to_owned),
            depth: behind.saturating_add(state.ledger.unsettled()),
            capacity: usize::MAX,
            delivered: state.delivered,
            dropped: 0,
            expired: state.expired,
            redelivered: state.redelivered,
            stalled: 0,
        }
    }
}

impl State {
    fn wait(&mut self, member: u64, cx: &Context<'_>) {
        let known = self.waiting.iter_mut().find(|(it, _)| *it == member);
        match known {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => self.waiting.push_back((member, cx.waker().clone())),
        }
    }

    /// The member to wake because something is ready for it. One that holds as much as it may
    /// would only go back to sleep, and leave those behind it asleep too.
    fn next_waiting(&mut self) -> Option<Waker> {
        if !self.ledger.has_ready() {
            return None;
        }
        let ledger = &self.ledger;
        let able = |(member, _): &(u64, Waker)| ledger.may_take(*member);
        let next = self.waiting.iter().position(able)?;
        self.waiting.remove(next).map(|(_, waker)| waker)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The task of one subscription.
pub(crate) struct Driver {
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) store: Arc<Store>,
    /// How long to wait after the next failure.
    backoff: Duration,
    /// Whether it is known that the next message waits for room: it need not be looked for.
    full: bool,
    /// Whether it has read anything: what was forgotten before that was not its to see.
    begun: bool,
}

/// What a step found to do.
struct Plan {
    again: Vec<(u64, u32)>,
    dead: Vec<Dead<Arc<Message>>>,
    room: usize,
    cursors: Cursors,
    dead_letters: Text,
}

impl Driver {
    pub(crate) fn new(consumer: Arc<Consumer>, store: Arc<Store>) -> Self {
        Self {
            consumer,
            store,
            backoff: limits::BACKOFF_MIN,
            full: false,
            begun: false,
        }
    }

    pub(crate) async fn run(mut self) {
        let over = self.consumer.over.clone();
        let mut commits = self.store.committed.subscribe();
        loop {
            let upto = *commits.borrow_and_update();
            let more = match self.step(upto).await {
                Ok(more) => {
                    self.backoff = limits::BACKOFF_MIN;
                    more
                }
                Err(error) => match self.failed(&error) {
                    Some(wait) => {
                        tokio::select! {
                            () = over.cancelled() => return,
                            () = tokio::time::sleep(wait) => true,
                        }
                    }
                    None => return,
                },
            };
            if over.is_cancelled() {
                return;
            }
            if more {
                // A subscription that has far to go must let the others run.
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.consumer.lock().ledger.next_due(Instant::now());
            tokio::select! {
                () = over.cancelled() => return,
                changed = commits.changed() => if changed.is_err() { return },
                () = self.consumer.wake.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Does what can be done now; says whether there is more.
    async fn step(&mut self, upto: u64) -> Result<bool, TransportError> {
        self.note_forgotten();
        let Some(plan) = self.plan() else {
            return Ok(false);
        };
        self.full &= plan.room == 0;
        let behind = plan.cursors.lowest() < upto;
        let fetched = if behind && !self.full {
            self.fetch(&plan, upto).await.map(Some)
        } else {
            Ok(None)
        };
        // What is due again does not wait for what cannot be read.
        let (fetched, failure) = match fetched {
            Ok(fetched) => (fetched, None),
            Err(error) => (None, Some(error)),
        };
        let work = self.work(&plan, fetched.as_ref());
        let written = match work.is_empty() {
            true => Ok(()),
            false => self.store.write(work).await,
        };
        let more = self.note(&plan, fetched, written.is_ok());
        written?;
        failure.map_or(Ok(more), Err)
    }

    /// Tells a reader that the log has overtaken it. Only one without a name can be: for the others
    /// it waits. How many of what is gone would have matched is not known, so all of it counts.
    fn note_forgotten(&mut self) {
        let first = self.store.first.load(Ordering::Acquire);
        let begun = std::mem::replace(&mut self.begun, true);
        let mut state = self.consumer.lock();
        let mut cursors = *state.ledger.cursors();
        let next = cursors.lowest() + 1;
        if next >= first || self.consumer.is_durable() {
            return;
        }
        (0..LANES).for_each(|lane| cursors.advance(lane, first - 1));
        state.missed += if begun { first - next } else { 0 };
        state.ledger.claim(Vec::new(), cursors);
    }

    fn plan(&self) -> Option<Plan> {
        let mut state = self.consumer.lock();
        if state.phase != Phase::Open {
            return None;
        }
        let now = Instant::now();
        state.ledger.next_due(now);
        let again = state.ledger.begin_again(now, limits::FETCH_MAX);
        Some(Plan {
            again,
            dead: state.ledger.dead(),
            room: state.ledger.room().min(limits::FETCH_MAX),
            cursors: *state.ledger.cursors(),
            dead_letters: state.dead_letters.clone(),
        })
    }

    async fn fetch(&self, plan: &Plan, upto: u64) -> Result<Fetched, TransportError> {
        let pattern = self.consumer.pattern();
        let near = self
            .store
            .tail
            .fetch(&plan.cursors, pattern, plan.room, upto);
        if let Some(fetched) = near {
            return Ok(fetched);
        }
        let wanted = Wanted {
            cursors: plan.cursors,
            pattern: pattern.clone(),
            max: plan.room,
            upto,
        };
        let clock = self.store.clock.clone();
        let query = move |connection: &_| reader::fetch(connection, &wanted, &clock);
        self.store.readers.read(query).await
    }

    /// What is to be written down before it is true.
    fn work(&self, plan: &Plan, fetched: Option<&Fetched>) -> Work {
        let letters = plan.dead.iter().filter_map(|dead| self.letter(plan, dead));
        let mut work = Work {
            consumer: self.consumer.row(),
            letters: letters.collect(),
            ..Work::default()
        };
        if !self.consumer.is_durable() {
            return work;
        }
        work.attempts.clone_from(&plan.again);
        work.settled = plan.dead.iter().map(|dead| dead.seq).collect();
        if let Some(fetched) = fetched.filter(|fetched| !fetched.messages.is_empty()) {
            work.claimed = fetched.messages.iter().map(|(seq, _)| *seq).collect();
            work.cursors = Some(fetched.cursors);
        }
        work
    }

    /// Notes what was written, or that it was not. Says whether there is more to do.
    fn note(&mut self, plan: &Plan, fetched: Option<Fetched>, written: bool) -> bool {
        let mut state = self.consumer.lock();
        if !written {
            let due = Instant::now() + self.backoff;
            state.ledger.not_begun(&plan.again, due);
            state.ledger.not_buried(&plan.dead);
            return true;
        }
        state.ledger.begun(&plan.again);
        state.ledger.buried(&plan.dead);
        let mut more = false;
        if let Some(fetched) = fetched {
            more = fetched.more
                && match plan.room {
                    0 => fetched.cursors != plan.cursors,
                    limits::FETCH_MAX => true,
                    room => fetched.messages.len() < room,
                };
            self.full = fetched.more && plan.room == 0 && !more;
            if fetched.damaged > 0 {
                tracing::error!(
                    log = %self.store.path.display(), count = fetched.damaged,
                    "messages in the log are damaged and were left out"
                );
            }
            state.missed += fetched.damaged;
            let lane = |message: &Message| message.priority.lane();
            let messages = fetched.messages.into_iter();
            let messages = messages.map(|(seq, message)| (seq, lane(&message), message));
            state.ledger.claim(messages.collect(), fetched.cursors);
        }
        let needed = state.ledger.needed();
        self.consumer.needed.store(needed, Ordering::Release);
        if state.phase == Phase::Open {
            let next = state.next_waiting();
            drop(state);
            wake(next);
        }
        more
    }

    /// The letter of a dead message. One that was a letter itself is only reported.
    fn letter(&self, plan: &Plan, dead: &Dead<Arc<Message>>) -> Option<Record> {
        let (subject, attempts) = (&dead.message.subject, dead.attempts);
        let prefix = plan.dead_letters.as_str();
        let (reason, error) = explain(dead.cause);
        let death = Death {
            reason,
            attempts,
            first_error: error,
            last_error: error,
        };
        let Some(letter) = dead_letter::addressed(&dead.message, prefix, death) else {
            tracing::error!(%subject, attempts, "a dead letter could not be handled either and is given up");
            return None;
        };
        let record = Record::new(Arc::new(letter), &self.store.clock);
        record
            .inspect_err(
                |error| tracing::error!(%subject, %error, "a dead letter could not be written"),
            )
            .ok()
    }

    /// Says how long to wait before trying again; `None` when it would not help.
    fn failed(&mut self, error: &TransportError) -> Option<Duration> {
        let name = self.consumer.name().unwrap_or("(not durable)");
        if matches!(
            error,
            TransportError::Closed | TransportError::Damaged { .. }
        ) {
            if !matches!(error, TransportError::Closed) {
                tracing::error!(%error, name, "a subscription ends because its log cannot be read");
            }
            self.consumer.end();
            return None;
        }
        tracing::warn!(%error, name, "a subscription waits for its log");
        let wait = self.backoff;
        self.backoff = (wait * 2).min(limits::BACKOFF_MAX);
        Some(wait)
    }
}

const fn explain(cause: Cause) -> (&'static str, &'static str) {
    match cause {
        Cause::Returned => ("max_retries", "its handler gave it back each time"),
        Cause::Abandoned => ("max_retries", "its handler ended without a verdict"),
        Cause::LeaseEnded => ("max_retries", "its handler took longer than its lease"),
        Cause::Crashed => ("max_retries", "the process ended while it was handled"),
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
