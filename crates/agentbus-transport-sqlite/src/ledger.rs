//! What one subscription has been given and has not settled: the rules, without the disk.
//!
//! It promises that a message is with one member at a time, that each attempt has its number, and
//! that nothing is forgotten before it is settled or dead. It knows no clock and does no I/O: time
//! is passed in, and what must be written down is handed out and confirmed. An attempt is written
//! down before it begins, so that one which a crash cuts off has been counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::cursors::Cursors;
use crate::limits;

/// How messages are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// How long a member may work on a message; `None` for ever.
    pub(crate) lease: Option<Duration>,
    pub(crate) attempts_max: u32,
    /// Whether a delivery that was dropped without a verdict is tried again.
    pub(crate) retry_abandoned: bool,
}

/// The state of one subscription.
#[derive(Debug)]
pub(crate) struct Ledger<M> {
    policy: Policy,
    cursors: Cursors,
    /// What has been claimed and not settled.
    open: BTreeMap<u64, Open<M>>,
    /// What may be taken, by lane, then by number.
    ready: BTreeSet<(usize, u64)>,
    leases: BTreeSet<(Instant, u64)>,
    waiting: BTreeSet<(Instant, u64)>,
    /// What has used up its attempts and is to be buried.
    dying: VecDeque<(u64, Cause)>,
    members: HashMap<u64, Member>,
}

#[derive(Debug)]
struct Open<M> {
    message: M,
    lane: usize,
    /// Attempts that have begun, as far as they are written down.
    attempt: u32,
    state: State,
}

/// ## Ready => Handed => (settled | Waiting | Dying), Waiting => Writing => Ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its attempt is written down; a member may take it.
    Ready,
    /// A member has it, until the lease ends.
    Handed { member: u64, until: Option<Instant> },
    /// Its next attempt may begin at this time.
    Waiting { due: Instant },
    /// Its next attempt is being written down.
    Writing,
    /// It is about to be buried, or being buried.
    Dying,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    prefetch: usize,
    held: usize,
    /// Takes what is ready and nothing new.
    stopping: bool,
}

/// Why the last attempt of a message failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its handler gave it back.
    Returned,
    /// Its handler was dropped without a verdict.
    Abandoned,
    /// Its handler took longer than its lease.
    LeaseEnded,
    /// The process ended during its attempt.
    Crashed,
}

/// A message in a member's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken<M> {
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    pub(crate) message: M,
}

/// A message that is to be buried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dead<M> {
    pub(crate) seq: u64,
    pub(crate) attempts: u32,
    pub(crate) cause: Cause,
    pub(crate) message: M,
}

/// A verdict that came too late: the delivery was not the member's any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale;

impl<M: Clone> Ledger<M> {
    pub(crate) fn new(policy: Policy, cursors: Cursors) -> Self {
        Self {
            policy,
            cursors,
            open: BTreeMap::new(),
            ready: BTreeSet::new(),
            leases: BTreeSet::new(),
            waiting: BTreeSet::new(),
            dying: VecDeque::new(),
            members: HashMap::new(),
        }
    }

    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    pub(crate) const fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn join(&mut self, member: u64, prefetch: usize) {
        let member_is = Member {
            prefetch: prefetch.clamp(1, limits::PREFETCH_MAX),
            held: 0,
            stopping: false,
        };
        self.members.insert(member, member_is);
    }

    /// Takes a member out; what it holds comes back with its verdicts.
    pub(crate) fn leave(&mut self, member: u64) {
        self.members.remove(&member);
    }

    /// A member takes nothing new. What is ready is left to the others, if there are any.
    pub(crate) fn stop(&mut self, member: u64) {
        if self.members.len() > 1 {
            self.leave(member);
        } else if let Some(alone) = self.members.get_mut(&member) {
            alone.stopping = true;
        }
    }

    /// Whether a member that finds nothing may wait for more.
    pub(crate) fn may_wait(&self, member: u64) -> bool {
        self.members.get(&member).is_some_and(|it| !it.stopping)
    }

    /// Whether a member holds less than it may.
    pub(crate) fn may_take(&self, member: u64) -> bool {
        let member = self.members.get(&member);
        member.is_some_and(|member| member.held < member.prefetch)
    }

    /// How many more messages may be claimed: as many as the members would take ahead. What waits
    /// for another attempt holds no place, but counts towards what one subscription may keep.
    pub(crate) fn room(&self) -> usize {
        let listening = self.members.values().filter(|member| !member.stopping);
        let prefetch: usize = listening.map(|member| member.prefetch).sum();
        let busy = self.open.len() - self.waiting.len();
        let spare = limits::UNSETTLED_MAX.saturating_sub(self.open.len());
        prefetch.saturating_sub(busy).min(spare)
    }

    /// Adds messages whose first attempt is written down.
    pub(crate) fn claim(&mut self, messages: Vec<(u64, usize, M)>, cursors: Cursors) {
        self.cursors = cursors;
        for (seq, lane, message) in messages {
            let state = State::Ready;
            let open = Open {
                message,
                lane,
                attempt: 1,
                state,
            };
            self.ready.insert((lane, seq));
            self.open.insert(seq, open);
        }
    }

    /// Puts back what an earlier process had claimed. How its attempts ended is not known, only
    /// how many had begun.
    pub(crate) fn restore(
        &mut self,
        seq: u64,
        lane: usize,
        message: M,
        attempt: u32,
        due: Instant,
    ) {
        let state = State::Waiting { due };
        let open = Open {
            message,
            lane,
            attempt,
            state,
        };
        self.waiting.insert((due, seq));
        self.open.insert(seq, open);
    }

    /// Ends leases that are over, and returns when the next thing is due. What waits for another
    /// attempt is only due when there is room for it.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<Instant> {
        self.end_leases(now);
        if !self.dying.is_empty() {
            return Some(now);
        }
        let room = self.room() > 0;
        let again = self.waiting.first().filter(|_| room).map(|(at, _)| *at);
        let lease = self.leases.first().map(|(at, _)| *at);
        again.into_iter().chain(lease).min()
    }

    fn end_leases(&mut self, now: Instant) {
        while let Some((until, seq)) = self.leases.first().copied() {
            if until > now {
                return;
            }
            self.fail(seq, now, Cause::LeaseEnded);
        }
    }

    /// Begins to write down the next attempts that are due: (number, attempt).
    pub(crate) fn begin_again(&mut self, now: Instant, max: usize) -> Vec<(u64, u32)> {
        let mut again = Vec::new();
        while again.len() < max && self.room() > 0 {
            let Some((due, seq)) = self.waiting.first().copied() else {
                break;
            };
            if due > now {
                break;
            }
            let Some(attempt) = self.open.get(&seq).map(|open| open.attempt) else {
                break;
            };
            if attempt >= self.policy.attempts_max {
                self.shift(seq, State::Dying);
                self.dying.push_back((seq, Cause::Crashed));
                continue;
            }
            self.shift(seq, State::Writing);
            again.push((seq, attempt + 1));
        }
        again
    }

    /// The attempts are written down and may begin.
    pub(crate) fn begun(&mut self, again: &[(u64, u32)]) {
        for (seq, attempt) in again {
            if let Some(open) = self.open.get_mut(seq)
                && open.state == State::Writing
            {
                open.attempt = *attempt;
                self.shift(*seq, State::Ready);
            }
        }
    }

    /// The attempts could not be written down; they are tried later.
    pub(crate) fn not_begun(&mut self, again: &[(u64, u32)], due: Instant) {
        for (seq, _) in again {
            if self.state_of(*seq) == Some(State::Writing) {
                self.shift(*seq, State::Waiting { due });
            }
        }
    }

    /// What is to be buried. It stays open until [`buried`](Self::buried).
    pub(crate) fn dead(&mut self) -> Vec<Dead<M>> {
        let dying = std::mem::take(&mut self.dying);
        let dead = dying.into_iter().filter_map(|(seq, cause)| {
            let open = self.open.get(&seq)?;
            Some(Dead {
                seq,
                attempts: open.attempt,
                cause,
                message: open.message.clone(),
            })
        });
        dead.collect()
    }

    /// Their letters are written.
    pub(crate) fn buried(&mut self, dead: &[Dead<M>]) {
        for letter in dead {
            self.remove(letter.seq);
        }
    }

    /// Their letters could not be written; they are dead nevertheless.
    pub(crate) fn not_buried(&mut self, dead: &[Dead<M>]) {
        self.dying
            .extend(dead.iter().map(|letter| (letter.seq, letter.cause)));
    }

    /// Hands what is ready to a member, the highest lane first.
    pub(crate) fn take(&mut self, member: u64, now: Instant, max: usize) -> Vec<Taken<M>> {
        let Some(it) = self.members.get_mut(&member) else {
            return Vec::new();
        };
        let count = max
            .min(it.prefetch.saturating_sub(it.held))
            .min(self.ready.len());
        it.held += count;
        let until = self.policy.lease.map(|lease| now + lease);
        let seqs: Vec<_> = self.ready.iter().take(count).map(|(_, seq)| *seq).collect();
        let taken = seqs.into_iter().filter_map(|seq| {
            self.shift(seq, State::Handed { member, until });
            let open = self.open.get(&seq)?;
            Some(Taken {
                seq,
                attempt: open.attempt,
                message: open.message.clone(),
            })
        });
        taken.collect()
    }

    /// When the first lease ends.
    pub(crate) fn first_lease(&self) -> Option<Instant> {
        self.leases.first().map(|(until, _)| *until)
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many messages members have in their hands.
    pub(crate) fn handed(&self) -> usize {
        let handed = |open: &&Open<M>| matches!(open.state, State::Handed { .. });
        self.open.values().filter(handed).count()
    }

    /// Settles a message, whoever has it now: done is done, also when the lease had ended. Returns
    /// whether it was still open.
    pub(crate) fn ack(&mut self, seq: u64) -> bool {
        self.remove(seq)
    }

    /// Settles a message that is refused for good.
    pub(crate) fn reject(&mut self, seq: u64, attempt: u32) -> Result<(), Stale> {
        self.check(seq, attempt)?;
        self.remove(seq);
        Ok(())
    }

    /// Takes a message back for another attempt, which may begin at `due`.
    pub(crate) fn nak(&mut self, seq: u64, attempt: u32, due: Instant) -> Result<(), Stale> {
        self.check(seq, attempt)?;
        self.fail(seq, due, Cause::Returned);
        Ok(())
    }

    /// Takes a message back from a member that forgot it. Returns whether that settled it.
    pub(crate) fn abandon(&mut self, seq: u64, attempt: u32, now: Instant) -> Result<bool, Stale> {
        self.check(seq, attempt)?;
        if self.policy.retry_abandoned {
            self.fail(seq, now, Cause::Abandoned);
        } else {
            self.remove(seq);
        }
        Ok(!self.policy.retry_abandoned)
    }

    /// Lets a member work until `until`.
    pub(crate) fn extend(&mut self, seq: u64, attempt: u32, until: Instant) -> Result<(), Stale> {
        self.check(seq, attempt)?;
        if let Some(State::Handed { member, .. }) = self.state_of(seq) {
            let until = Some(until);
            self.shift_quietly(seq, State::Handed { member, until });
        }
        Ok(())
    }

    /// Withdraws what was claimed and never handed out: (number, attempts that had begun).
    pub(crate) fn withdraw(&mut self) -> Vec<(u64, u32)> {
        let ready: Vec<_> = self.ready.iter().map(|(_, seq)| *seq).collect();
        let withdrawn = ready.into_iter().filter_map(|seq| {
            let attempt = self.open.get(&seq)?.attempt;
            self.remove(seq);
            Some((seq, attempt - 1))
        });
        withdrawn.collect()
    }

    /// The first number that is still needed.
    pub(crate) fn needed(&self) -> u64 {
        let unseen = self.cursors.lowest() + 1;
        let unsettled = self.open.keys().next().copied();
        unsettled.map_or(unseen, |unsettled| unsettled.min(unseen))
    }

    pub(crate) fn unsettled(&self) -> usize {
        self.open.len()
    }

    /// Fails unless this very attempt is in a member's hands.
    fn check(&self, seq: u64, attempt: u32) -> Result<(), Stale> {
        match self.open.get(&seq) {
            Some(open) if open.attempt == attempt => match open.state {
                State::Handed { .. } => Ok(()),
                _ => Err(Stale),
            },
            _ => Err(Stale),
        }
    }

    /// Ends an attempt without success.
    fn fail(&mut self, seq: u64, due: Instant, cause: Cause) {
        let Some(attempt) = self.open.get(&seq).map(|open| open.attempt) else {
            return;
        };
        if attempt >= self.policy.attempts_max {
            self.shift(seq, State::Dying);
            self.dying.push_back((seq, cause));
        } else {
            self.shift(seq, State::Waiting { due });
        }
    }

    fn state_of(&self, seq: u64) -> Option<State> {
        self.open.get(&seq).map(|open| open.state)
    }

    /// Moves a message to another state, and out of a member's hands if it was there.
    fn shift(&mut self, seq: u64, state: State) {
        if let Some(State::Handed { member, .. }) = self.state_of(seq) {
            self.let_go(member);
        }
        self.shift_quietly(seq, state);
    }

    fn let_go(&mut self, member: u64) {
        if let Some(member) = self.members.get_mut(&member) {
            member.held = member.held.saturating_sub(1);
        }
    }

    /// Keeps the three indexes in step with the states.
    fn shift_quietly(&mut self, seq: u64, state: State) {
        let Some(open) = self.open.get_mut(&seq) else {
            return;
        };
        let (lane, old) = (open.lane, std::mem::replace(&mut open.state, state));
        match old {
            State::Ready => drop(self.ready.remove(&(lane, seq))),
            State::Handed { until, .. } => drop(until.map(|at| self.leases.remove(&(at, seq)))),
            State::Waiting { due } => drop(self.waiting.remove(&(due, seq))),
            State::Writing | State::Dying => {}
        }
        match state {
            State::Ready => drop(self.ready.insert((lane, seq))),
            State::Handed { until, .. } => drop(until.map(|at| self.leases.insert((at, seq)))),
            State::Waiting { due } => drop(self.waiting.insert((due, seq))),
            State::Writing | State::Dying => {}
        }
    }

    fn remove(&mut self, seq: u64) -> bool {
        // Out of every index first; what is dying is skipped when its turn comes.
        self.shift(seq, State::Dying);
        self.open.remove(&seq).is_some()
    }
}

#[cfg(test)]
mod tests;
