//! What has become of each event for one durable name, as its members agree on it.
//!
//! Members write steps to one partition and read them back in one order. A claim counts if the
//! message was free at that place in the order, so that each attempt has one owner, and it is
//! written down before it begins. Times are the broker's, which stand in the records: a lease ends
//! for all members at the same step.
//!
//! Pure: no clock, no I/O. Everything below [`Ledger::low`] is settled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_transport::Message;
use serde::{Deserialize, Serialize};

use crate::table::client_of;

/// Something that a member says about events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(crate) enum Step {
    /// A member takes messages, each with the number of the attempt.
    Claim {
        member: String,
        of: Vec<(i64, u32)>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<u64>,
    },
    /// A message is done with, whoever has it.
    Settle { of: i64 },
    /// A member gives a message back, to be tried again after a delay in milliseconds.
    Release {
        member: String,
        of: i64,
        attempt: u32,
        delay: u64,
    },
    /// A member keeps a message for so many milliseconds more.
    Extend {
        member: String,
        of: i64,
        attempt: u32,
        lease: u64,
    },
    /// A member, or all of a client, takes no part any more. What it had is free, except for what
    /// is still in somebody's hands; what was never handed out was no attempt.
    Leave {
        who: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        but: Vec<i64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        untried: Vec<i64>,
    },
}

/// What a step means to the member that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A claim of ours counts.
    Won { number: i64, attempt: u32 },
    /// A claim of ours does not count; somebody else was first.
    Missed { number: i64 },
    /// Somebody else may have a message that is in our hands.
    Lost { number: i64, attempt: u32 },
    /// A message is done with; an attempt at it that nobody has begun is not needed.
    Settled { number: i64 },
}

/// Why a message had to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Cause {
    #[default]
    GivenBack,
    LeaseEnded,
    MemberGone,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    own: String,
    /// The event that will be read next.
    next: i64,
    entries: BTreeMap<i64, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// `None` until the event is read, and once it is settled.
    message: Option<Arc<Message>>,
    attempts: u32,
    state: State,
    cause: Cause,
    /// The first step about it; `None` when there is none.
    since: Option<i64>,
    /// When it could first be taken, by this process's clock.
    seen_at: Instant,
}

/// The life of an event.
///
/// ## Free => Claimed => Free again, or Done. Anything => Done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// May be claimed from this time of the broker on.
    Free { due: i64 },
    /// Belongs to a member until this time, or for as long as the member is there.
    Claimed { member: String, until: Option<i64> },
    /// Settled.
    Done,
}

/// What a member may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// The broker's time.
    pub(crate) now: i64,
    /// This process's time.
    pub(crate) here: Instant,
    /// Which of the members it is.
    pub(crate) rank: usize,
    pub(crate) members: usize,
    /// How long it leaves messages to the member whose turn it is.
    pub(crate) patience: Duration,
    pub(crate) room: usize,
}

impl Ledger {
    /// A ledger whose events below `next` are settled.
    pub(crate) const fn new(own: String, next: i64) -> Self {
        Self {
            own,
            next,
            entries: BTreeMap::new(),
        }
    }

    /// Takes an event in; `None` for one that does not concern the name.
    pub(crate) fn add(&mut self, number: i64, message: Option<Arc<Message>>, here: Instant) {
        // Events that are not there any more cannot be handled any more.
        for (_, entry) in self.entries.range_mut(self.next..number) {
            entry.finish();
        }
        self.next = number + 1;
        match (self.entries.get_mut(&number), message) {
            (Some(entry), None) => entry.finish(),
            (Some(entry), Some(_)) if entry.state == State::Done => {}
            (Some(entry), message) => entry.message = message,
            (None, None) => {}
            (None, message) => {
                let mut entry = Entry::new(here);
                entry.message = message;
                self.entries.insert(number, entry);
            }
        }
    }

    /// Takes a step in: its number, the broker's time, and what it says.
    pub(crate) fn apply(&mut self, at: i64, time: i64, step: Step, here: Instant) -> Vec<Effect> {
        match step {
            Step::Claim { member, of, lease } => {
                let until = lease.map(|lease| time.saturating_add_unsigned(lease));
                let claims = of.into_iter();
                claims
                    .flat_map(|(number, attempt)| {
                        self.claim(at, time, &member, (number, attempt), until, here)
                    })
                    .collect()
            }
            Step::Settle { of } => {
                if let Some(entry) = self.touch(of, at, here) {
                    entry.finish();
                }
                vec![Effect::Settled { number: of }]
            }
            Step::Release {
                member,
                of,
                attempt,
                delay,
            } => {
                if let Some(entry) = self.owned(of, &member, attempt) {
                    entry.free(time.saturating_add_unsigned(delay), Cause::GivenBack, here);
                }
                Vec::new()
            }
            Step::Extend {
                member,
                of,
                attempt,
                lease,
            } => {
                if let Some(entry) = self.owned(of, &member, attempt) {
                    let until = Some(time.saturating_add_unsigned(lease));
                    entry.state = State::Claimed { member, until };
                }
                Vec::new()
            }
            Step::Leave { who, but, untried } => self.leave(time, &who, &but, &untried, here),
        }
    }

    fn claim(
        &mut self,
        at: i64,
        time: i64,
        member: &str,
        (number, attempt): (i64, u32),
        until: Option<i64>,
        here: Instant,
    ) -> Vec<Effect> {
        let is_own = member == self.own;
        let own = self.own.clone();
        let mut effects = Vec::new();
        let counts = self.touch(number, at, here).is_some_and(|entry| {
            if entry.attempts + 1 != attempt || !entry.is_claimable(time) {
                return false;
            }
            if let State::Claimed { member: before, .. } = &entry.state {
                entry.cause = Cause::LeaseEnded;
                if *before == own {
                    let attempt = entry.attempts;
                    effects.push(Effect::Lost { number, attempt });
                }
            }
            entry.attempts = attempt;
            let member = member.to_owned();
            entry.state = State::Claimed { member, until };
            true
        });
        if is_own {
            effects.push(if counts {
                Effect::Won { number, attempt }
            } else {
                Effect::Missed { number }
            });
        }
        effects
    }

    fn leave(
        &mut self,
        time: i64,
        who: &str,
        but: &[i64],
        untried: &[i64],
        here: Instant,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (number, entry) in &mut self.entries {
            let State::Claimed { member, .. } = &entry.state else {
                continue;
            };
            if (member != who && client_of(member) != who) || but.contains(number) {
                continue;
            }
            if *member == self.own {
                let (number, attempt) = (*number, entry.attempts);
                effects.push(Effect::Lost { number, attempt });
            }
            if untried.contains(number) {
                entry.attempts -= 1;
            }
            entry.free(time, Cause::MemberGone, here);
        }
        effects
    }

    /// The entry of an event that is not settled for good, marked by a step about it.
    fn touch(&mut self, number: i64, at: i64, here: Instant) -> Option<&mut Entry> {
        if number < self.next && !self.entries.contains_key(&number) {
            return None;
        }
        let entry = self
            .entries
            .entry(number)
            .or_insert_with(|| Entry::new(here));
        entry.since.get_or_insert(at);
        Some(entry)
    }

    /// The entry of an event, if this attempt at it is this member's.
    fn owned(&mut self, number: i64, member: &str, attempt: u32) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&number)?;
        let is_owner =
            matches!(&entry.state, State::Claimed { member: owner, .. } if owner == member);
        (is_owner && entry.attempts == attempt).then_some(entry)
    }

    /// What a member claims now: the oldest that are free, those whose turn it is first.
    pub(crate) fn choose(&self, turn: Turn) -> Vec<(i64, u32)> {
        let is_ours = |number: i64, entry: &Entry| {
            let rank = usize::try_from(number).unwrap_or_default() % turn.members.max(1);
            rank == turn.rank || turn.here.duration_since(entry.seen_at) >= turn.patience
        };
        let free = self.entries.iter().filter(|(number, entry)| {
            entry.message.is_some() && entry.is_claimable(turn.now) && is_ours(**number, entry)
        });
        free.take(turn.room)
            .map(|(number, entry)| (*number, entry.attempts + 1))
            .collect()
    }

    /// The time of the broker at which the next message becomes free by itself; `now` when one is
    /// free already.
    pub(crate) fn next_due(&self, now: i64) -> Option<i64> {
        let mut next: Option<i64> = None;
        for entry in self.entries.values() {
            let due = match entry.state {
                State::Free { due } if entry.message.is_some() => due,
                State::Claimed {
                    until: Some(until), ..
                } => until,
                _ => continue,
            };
            if due <= now {
                return Some(now);
            }
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        next
    }

    /// A message that is not settled, and why it was tried before.
    pub(crate) fn message(&self, number: i64) -> Option<(Arc<Message>, Cause)> {
        let entry = self.entries.get(&number)?;
        Some((Arc::clone(entry.message.as_ref()?), entry.cause))
    }

    /// The clients that have messages.
    pub(crate) fn owners(&self) -> Vec<String> {
        let mut owners: Vec<_> = self
            .entries
            .values()
            .filter_map(|entry| match &entry.state {
                State::Claimed { member, .. } => Some(client_of(member).to_owned()),
                _ => None,
            })
            .collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Forgets what is settled. Returns the first event that is not, and the first step that
    /// somebody who begins there has to read; `None` for the next.
    pub(crate) fn low(&mut self) -> (i64, Option<i64>) {
        while let Some(first) = self.entries.first_entry()
            && first.get().state == State::Done
            && *first.key() < self.next
        {
            first.remove();
        }
        let first = self.entries.keys().next().copied();
        let low = first.map_or(self.next, |first| first.min(self.next));
        (
            low,
            self.entries.values().filter_map(|entry| entry.since).min(),
        )
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Entry {
    const fn new(here: Instant) -> Self {
        Self {
            message: None,
            attempts: 0,
            state: State::Free { due: 0 },
            cause: Cause::GivenBack,
            since: None,
            seen_at: here,
        }
    }

    fn is_claimable(&self, time: i64) -> bool {
        match self.state {
            State::Free { due } => due <= time,
            State::Claimed { until, .. } => until.is_some_and(|until| until <= time),
            State::Done => false,
        }
    }

    fn free(&mut self, due: i64, cause: Cause, here: Instant) {
        self.state = State::Free { due };
        self.cause = cause;
        self.seen_at = here;
    }

    fn finish(&mut self) {
        self.state = State::Done;
        self.message = None;
    }
}

#[cfg(test)]
mod tests;
