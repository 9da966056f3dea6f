//! The ledger against a model that is too simple to be wrong, step by step and at random.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MEMBERS: u64 = 3;
const ATTEMPTS_MAX: u32 = 3;
const LEASE: Duration = Duration::from_secs(10);
const PREFETCH: usize = 4;

/// What can happen to a subscription.
#[derive(Debug, Clone)]
enum Event {
    Claim {
        lane: usize,
        count: usize,
    },
    Take {
        member: u64,
        max: usize,
    },
    Ack {
        pick: usize,
    },
    Nak {
        pick: usize,
        delay: u64,
    },
    Reject {
        pick: usize,
    },
    Extend {
        pick: usize,
        lease: u64,
    },
    Abandon {
        pick: usize,
    },
    Pass {
        seconds: u64,
    },
    /// Writes down what is due, or fails to.
    Write {
        succeeds: bool,
    },
    Leave {
        member: u64,
    },
    Join {
        member: u64,
    },
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    let pick = 0..64_usize;
    prop_oneof![
        3 => (0..6_usize, 1..5_usize).prop_map(|(lane, count)| Event::Claim { lane, count }),
        4 => (0..MEMBERS, 1..6_usize).prop_map(|(member, max)| Event::Take { member, max }),
        3 => pick.clone().prop_map(|pick| Event::Ack { pick }),
        2 => (pick.clone(), 0..20_u64).prop_map(|(pick, delay)| Event::Nak { pick, delay }),
        1 => pick.clone().prop_map(|pick| Event::Reject { pick }),
        1 => (pick.clone(), 1..30_u64).prop_map(|(pick, lease)| Event::Extend { pick, lease }),
        1 => pick.prop_map(|pick| Event::Abandon { pick }),
        2 => (1..15_u64).prop_map(|seconds| Event::Pass { seconds }),
        4 => proptest::bool::weighted(0.8).prop_map(|succeeds| Event::Write { succeeds }),
        1 => (0..MEMBERS).prop_map(|member| Event::Leave { member }),
        1 => (0..MEMBERS).prop_map(|member| Event::Join { member }),
        1 => Just(Event::Crash),
    ]
}

/// One message in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    lane: usize,
    /// As written down.
    attempt: u32,
    /// The highest attempt that a member has seen.
    seen: u32,
    with: Option<(u64, u32)>,
    lease: Option<Instant>,
    not_before: Option<Instant>,
}

/// The ledger, the model, and what the disk would say.
struct Bench {
    ledger: Ledger<u64>,
    known: BTreeMap<u64, Known>,
    settled: Vec<u64>,
    dead: Vec<u64>,
    now: Instant,
    last: u64,
    joined: Vec<u64>,
}

fn policy() -> Policy {
    Policy {
        lease: Some(LEASE),
        attempts_max: ATTEMPTS_MAX,
        retry_abandoned: true,
    }
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            ledger: Ledger::new(policy(), Cursors::at(0)),
            known: BTreeMap::new(),
            settled: Vec::new(),
            dead: Vec::new(),
            now: Instant::now(),
            last: 0,
            joined: Vec::new(),
        };
        (0..MEMBERS).for_each(|member| bench.join(member));
        bench
    }

    fn join(&mut self, member: u64) {
        if !self.joined.contains(&member) {
            self.joined.push(member);
            self.ledger.join(member, PREFETCH);
        }
    }

    /// The deliveries that members hold, late ones included: (number, attempt).
    fn held(&self) -> Vec<(u64, u32)> {
        let held = self.known.iter();
        held.filter_map(|(seq, known)| known.with.map(|(_, attempt)| (*seq, attempt)))
            .collect()
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Claim { lane, count } => self.claim(lane, count),
            Event::Take { member, max } => self.take(member, max),
            Event::Pass { seconds } => self.now += Duration::from_secs(seconds),
            Event::Write { succeeds } => self.write(succeeds),
            Event::Join { member } => self.join(member),
            Event::Leave { member } => {
                self.joined.retain(|joined| *joined != member);
                self.ledger.leave(member);
            }
            Event::Crash => self.crash(),
            _ => self.decide(event),
        }
    }

    fn claim(&mut self, lane: usize, count: usize) {
        let count = count.min(self.ledger.room());
        let first = self.last + 1;
        self.last += count as u64;
        let messages: Vec<_> = (first..=self.last).map(|seq| (seq, lane, seq)).collect();
        for (seq, lane, _) in &messages {
            let known = Known {
                lane: *lane,
                attempt: 1,
                seen: 0,
                with: None,
                lease: None,
                not_before: None,
            };
            self.known.insert(*seq, known);
        }
        self.ledger.claim(messages, Cursors::at(self.last));
    }

    fn take(&mut self, member: u64, max: usize) {
        for taken in self.ledger.take(member, self.now, max) {
            let known = self.known.get_mut(&taken.seq).expect("only what is known");
            assert_eq!(taken.message, taken.seq);
            assert_eq!(taken.attempt, known.attempt, "the attempt is written down");
            assert!(taken.attempt > known.seen, "no attempt is handed out twice");
            assert!(taken.attempt <= ATTEMPTS_MAX);
            assert!(known.not_before.is_none_or(|time| time <= self.now));
            assert!(self.joined.contains(&member));
            known.seen = taken.attempt;
            known.with = Some((member, taken.attempt));
            known.lease = Some(self.now + LEASE);
            known.not_before = None;
        }
    }

    /// Gives one of the verdicts on one of the deliveries.
    fn decide(&mut self, event: &Event) {
        let held = self.held();
        let pick = match *event {
            Event::Ack { pick }
            | Event::Nak { pick, .. }
            | Event::Reject { pick }
            | Event::Extend { pick, .. }
            | Event::Abandon { pick } => pick,
            _ => return,
        };
        let Some((seq, attempt)) = held.get(pick % held.len().max(1)).copied() else {
            return;
        };
        // The ledger notices the end of a lease when it is asked what is due.
        self.ledger.next_due(self.now);
        let known = self.known[&seq];
        let current = known.lease.is_some_and(|until| until > self.now);
        let stale = match *event {
            Event::Ack { .. } => {
                assert!(self.ledger.ack(seq), "what is held is open");
                self.settle(seq);
                return;
            }
            Event::Nak { delay, .. } => {
                let due = self.now + Duration::from_secs(delay);
                let stale = self.ledger.nak(seq, attempt, due).is_err();
                if !stale {
                    self.let_go(seq, Some(due));
                }
                stale
            }
            Event::Reject { .. } => {
                let stale = self.ledger.reject(seq, attempt).is_err();
                if !stale {
                    self.settle(seq);
                }
                stale
            }
            Event::Extend { lease, .. } => {
                let until = self.now + Duration::from_secs(lease);
                let stale = self.ledger.extend(seq, attempt, until).is_err();
                if let (false, Some(known)) = (stale, self.known.get_mut(&seq)) {
                    known.lease = Some(until);
                }
                stale
            }
            _ => {
                let stale = self.ledger.abandon(seq, attempt, self.now).is_err();
                if !stale {
                    self.let_go(seq, None);
                }
                stale
            }
        };
        assert_eq!(stale, !current, "{event:?} on {seq}, {known:?}");
    }

    fn settle(&mut self, seq: u64) {
        self.known.remove(&seq);
        self.settled.push(seq);
    }

    fn let_go(&mut self, seq: u64, not_before: Option<Instant>) {
        let known = self.known.get_mut(&seq).expect("only what is known");
        known.with = None;
        known.lease = None;
        known.not_before = not_before;
    }

    /// Does what the subscription's task does.
    fn write(&mut self, succeeds: bool) {
        self.ledger.next_due(self.now);
        let again = self.ledger.begin_again(self.now, 8);
        let dead = self.ledger.dead();
        if !succeeds {
            self.ledger.not_begun(&again, self.now);
            return self.ledger.not_buried(&dead);
        }
        for (seq, attempt) in &again {
            let known = self.known.get_mut(seq).expect("only what is known");
            assert_eq!(
                *attempt,
                known.attempt + 1,
                "attempts are counted one by one"
            );
            assert!(known.not_before.is_none_or(|time| time <= self.now));
            assert!(known.lease.is_none_or(|until| until <= self.now));
            known.attempt = *attempt;
            known.lease = None;
        }
        for letter in &dead {
            let known = self.known.remove(&letter.seq).expect("only what is known");
            assert_eq!(letter.attempts, known.attempt);
            assert_eq!(letter.attempts, ATTEMPTS_MAX, "not before the last attempt");
            self.dead.push(letter.seq);
        }
        self.ledger.begun(&again);
        self.ledger.buried(&dead);
    }

    /// Begins again with what is written down: attempts, and nothing of who has what.
    fn crash(&mut self) {
        self.ledger = Ledger::new(policy(), Cursors::at(self.last));
        let joined = std::mem::take(&mut self.joined);
        joined.into_iter().for_each(|member| self.join(member));
        for (seq, known) in &mut self.known {
            self.ledger
                .restore(*seq, known.lane, *seq, known.attempt, self.now);
            known.with = None;
            known.lease = None;
            known.not_before = None;
        }
    }

    fn check(&self) {
        assert_eq!(self.ledger.unsettled(), self.known.len());
        let all = self.known.len() + self.settled.len() + self.dead.len();
        assert_eq!(all as u64, self.last, "every message is in one place");
        let first = self.known.keys().next().copied();
        assert_eq!(self.ledger.needed(), first.unwrap_or(self.last + 1));
        for member in &self.joined {
            let held = self.ledger.members[member].held;
            assert!(held <= PREFETCH, "member {member} holds {held}");
        }
        self.check_indexes();
    }

    fn check_indexes(&self) {
        let ledger = &self.ledger;
        let count = |wanted: fn(&State) -> bool| {
            let states = ledger.open.values().map(|open| &open.state);
            states.filter(|state| wanted(state)).count()
        };
        assert_eq!(ledger.ready.len(), count(|it| *it == State::Ready));
        assert_eq!(
            ledger.leases.len(),
            count(|it| matches!(it, State::Handed { .. }))
        );
        assert_eq!(
            ledger.waiting.len(),
            count(|it| matches!(it, State::Waiting { .. }))
        );
    }

    /// Lets everything come to its end: every message is settled or dead, and nothing is left.
    fn finish(&mut self) {
        (0..MEMBERS).for_each(|member| self.join(member));
        // Each round ends an attempt of everything that is open.
        for _ in 0..(ATTEMPTS_MAX as usize + 2) * (self.known.len() + 1) {
            self.now += Duration::from_secs(40);
            self.write(true);
            (0..MEMBERS).for_each(|member| self.take(member, 2));
            self.decide(&Event::Ack { pick: 0 });
            self.check();
        }
        self.write(true);
        assert_eq!(self.known, BTreeMap::new());
        assert_eq!(self.ledger.needed(), self.last + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_does_what_the_model_does(events in prop::collection::vec(event(), 1..120)) {
        let mut bench = Bench::new();
        for event in &events {
            bench.apply(event);
            bench.check();
        }
        bench.finish();
    }
}

/// A ledger with one member and messages from 1 in the lanes given.
fn with_lanes(lanes: &[usize]) -> (Ledger<u64>, Instant) {
    let mut ledger = Ledger::new(policy(), Cursors::at(0));
    ledger.join(0, lanes.len());
    let messages = (1..).zip(lanes).map(|(seq, lane)| (seq, *lane, seq));
    ledger.claim(messages.collect(), Cursors::at(lanes.len() as u64));
    (ledger, Instant::now())
}

fn order(ledger: &mut Ledger<u64>, now: Instant) -> Vec<u64> {
    let taken = ledger.take(0, now, usize::MAX);
    taken.into_iter().map(|taken| taken.seq).collect()
}

#[test]
fn the_highest_lane_is_taken_first_and_each_in_order() {
    let (mut ledger, now) = with_lanes(&[3, 5, 0, 3, 0]);
    assert_eq!(order(&mut ledger, now), [3, 5, 1, 4, 2]);
}

#[test]
fn what_comes_again_comes_before_what_is_newer() {
    let (mut ledger, now) = with_lanes(&[3, 3, 3]);
    ledger.take(0, now, 1);
    ledger.nak(1, 1, now).unwrap();
    let again = ledger.begin_again(now, 8);
    assert_eq!(again, [(1, 2)]);
    ledger.begun(&again);
    assert_eq!(order(&mut ledger, now), [1, 2, 3]);
}

#[test]
fn what_waits_for_another_attempt_leaves_room_for_others() {
    let (mut ledger, now) = with_lanes(&[3, 3]);
    assert_eq!(ledger.room(), 0);
    ledger.take(0, now, 1);
    ledger.nak(1, 1, now + LEASE).unwrap();
    assert_eq!(ledger.room(), 1);
    assert_eq!(ledger.next_due(now), Some(now + LEASE));
}

#[test]
fn a_restored_message_that_has_had_its_attempts_dies() {
    let mut ledger = Ledger::new(policy(), Cursors::at(1));
    let now = Instant::now();
    ledger.restore(1, 3, 1, ATTEMPTS_MAX, now);
    ledger.join(0, 1);
    assert_eq!(ledger.begin_again(now, 8), []);
    let dead = ledger.dead();
    assert_eq!(
        (dead[0].attempts, dead[0].cause),
        (ATTEMPTS_MAX, Cause::Crashed)
    );
}
