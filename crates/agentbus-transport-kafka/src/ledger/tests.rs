use agentbus_protocol::{Envelope, EventType, Subject};
use agentbus_transport::remote::stamp;

use super::*;

fn message() -> Option<Arc<Message>> {
    let envelope = Envelope::new(stamp(), EventType::from("t"));
    Some(Arc::new(Message::new(
        Subject::parse("a").unwrap(),
        envelope,
    )))
}

/// The ledger of member `me/0` with these events.
fn ledger(events: i64) -> Ledger {
    let mut ledger = Ledger::new("me/0".to_owned(), 0);
    for number in 0..events {
        ledger.add(number, message(), Instant::now());
    }
    ledger
}

fn claim(member: &str, of: &[(i64, u32)], lease: Option<u64>) -> Step {
    Step::Claim {
        member: member.to_owned(),
        of: of.to_vec(),
        lease,
    }
}

fn leave(who: &str, but: &[i64], untried: &[i64]) -> Step {
    Step::Leave {
        who: who.to_owned(),
        but: but.to_vec(),
        untried: untried.to_vec(),
    }
}

fn turn(now: i64, room: usize) -> Turn {
    Turn {
        now,
        here: Instant::now(),
        rank: 0,
        members: 1,
        patience: Duration::from_secs(60),
        room,
    }
}

/// Applies steps, one a millisecond, and returns the effects of the last.
fn run(ledger: &mut Ledger, steps: Vec<Step>) -> Vec<Effect> {
    let mut last = Vec::new();
    for (at, step) in (0..).zip(steps) {
        last = ledger.apply(at, at, step, Instant::now());
    }
    last
}

#[test]
fn the_first_claim_counts() {
    let mut ledger = ledger(2);
    let lost = run(
        &mut ledger,
        vec![
            claim("other/1", &[(0, 1)], None),
            claim("me/0", &[(0, 1), (1, 1)], None),
        ],
    );
    let expected = [
        Effect::Missed { number: 0 },
        Effect::Won {
            number: 1,
            attempt: 1,
        },
    ];
    assert_eq!(lost, expected);
    assert!(ledger.choose(turn(9, 9)).is_empty());
}

#[test]
fn an_attempt_is_claimed_under_its_own_number() {
    let mut ledger = ledger(1);
    assert_eq!(
        run(&mut ledger, vec![claim("me/0", &[(0, 2)], None)]),
        [Effect::Missed { number: 0 }]
    );
}

#[test]
fn a_lease_ends_by_the_time_of_the_records() {
    let mut ledger = ledger(1);
    ledger.apply(0, 100, claim("me/0", &[(0, 1)], Some(50)), Instant::now());
    assert_eq!(ledger.next_due(120), Some(150));
    let early = claim("other/1", &[(0, 2)], None);
    assert!(
        ledger
            .apply(1, 149, early.clone(), Instant::now())
            .is_empty()
    );
    let lost = ledger.apply(2, 150, early, Instant::now());
    let expected = [Effect::Lost {
        number: 0,
        attempt: 1,
    }];
    assert_eq!(lost, expected);
}

#[test]
fn an_extended_lease_lasts_and_one_that_ended_does_not_come_back() {
    let mut ledger = ledger(1);
    let extend = |attempt| Step::Extend {
        member: "me/0".to_owned(),
        of: 0,
        attempt,
        lease: 100,
    };
    ledger.apply(0, 0, claim("me/0", &[(0, 1)], Some(10)), Instant::now());
    ledger.apply(1, 5, extend(1), Instant::now());
    assert_eq!(ledger.next_due(5), Some(105));
    ledger.apply(
        2,
        105,
        claim("other/1", &[(0, 2)], Some(10)),
        Instant::now(),
    );
    ledger.apply(3, 106, extend(1), Instant::now());
    assert_eq!(ledger.next_due(106), Some(115), "it is somebody else's");
}

#[test]
fn what_is_given_back_waits_and_counts() {
    let mut ledger = ledger(1);
    let release = Step::Release {
        member: "me/0".to_owned(),
        of: 0,
        attempt: 1,
        delay: 50,
    };
    ledger.apply(0, 0, claim("me/0", &[(0, 1)], None), Instant::now());
    ledger.apply(1, 10, release, Instant::now());
    assert!(ledger.choose(turn(59, 9)).is_empty());
    assert_eq!(ledger.choose(turn(60, 9)), [(0, 2)]);
}

#[test]
fn whoever_goes_leaves_what_is_not_in_hands_and_untried_is_no_attempt() {
    let mut ledger = ledger(3);
    let all = [(0, 1), (1, 1), (2, 1)];
    run(
        &mut ledger,
        vec![claim("other/1", &all, None), leave("other/1", &[0], &[1])],
    );
    assert_eq!(ledger.choose(turn(9, 9)), [(1, 1), (2, 2)]);
}

#[test]
fn a_client_that_is_gone_had_all_of_its_members() {
    let mut ledger = ledger(2);
    run(
        &mut ledger,
        vec![
            claim("other/1", &[(0, 1)], None),
            claim("other/2", &[(1, 1)], None),
            leave("other", &[], &[]),
        ],
    );
    assert_eq!(ledger.choose(turn(9, 9)), [(0, 2), (1, 2)]);
    assert!(ledger.owners().is_empty());
}

#[test]
fn the_low_mark_is_below_everything_that_is_not_settled() {
    let mut ledger = ledger(3);
    run(
        &mut ledger,
        vec![
            claim("me/0", &[(0, 1), (1, 1), (2, 1)], None),
            Step::Settle { of: 1 },
        ],
    );
    assert_eq!(
        ledger.low(),
        (0, Some(0)),
        "what is settled above it is kept"
    );
    run(&mut ledger, vec![Step::Settle { of: 0 }]);
    assert_eq!(ledger.low(), (2, Some(0)));
    run(&mut ledger, vec![Step::Settle { of: 2 }]);
    assert_eq!(ledger.low(), (3, None));
    // Steps about what is settled change nothing.
    run(&mut ledger, vec![claim("me/0", &[(1, 2)], None)]);
    assert_eq!((ledger.low(), ledger.len()), ((3, None), 0));
}

#[test]
fn steps_may_be_read_before_their_events() {
    let mut ledger = ledger(0);
    run(
        &mut ledger,
        vec![
            claim("other/1", &[(0, 1), (1, 1)], None),
            Step::Settle { of: 0 },
        ],
    );
    assert_eq!(ledger.low(), (0, Some(0)));
    ledger.add(0, message(), Instant::now());
    ledger.add(1, message(), Instant::now());
    assert_eq!(ledger.low(), (1, Some(0)));
    assert!(ledger.choose(turn(9, 9)).is_empty());
}

#[test]
fn events_that_are_gone_stop_nobody() {
    let mut ledger = ledger(0);
    run(&mut ledger, vec![claim("me/0", &[(3, 1)], None)]);
    ledger.add(7, None, Instant::now());
    assert_eq!(ledger.low(), (8, None));
}

#[test]
fn members_take_turns_and_help_out() {
    let ledger = ledger(4);
    let mut mine = turn(9, 9);
    mine.members = 2;
    assert_eq!(ledger.choose(mine), [(0, 1), (2, 1)]);
    mine.patience = Duration::ZERO;
    assert_eq!(ledger.choose(mine).len(), 4);
    mine.room = 1;
    assert_eq!(ledger.choose(mine), [(0, 1)]);
}
