//! The table of the module's documentation, cell by cell, and that every state is left.

use super::*;

/// Where the wait of a backoff ends, which is also the time of every step here.
const UNTIL: Now = Duration::from_secs(5);

const STATES: [State; 9] = [
    State::Stopped,
    State::Starting,
    State::Running,
    State::Retiring(After::Renew),
    State::Retiring(After::Sleep),
    State::Asleep,
    State::Backoff { until: UNTIL },
    State::GivenUp,
    State::Stopping,
];

fn name(state: State) -> String {
    match state {
        State::Backoff { .. } => "Backoff".to_owned(),
        state => format!("{state:?}"),
    }
}

/// The events of a column: how a process ended makes no difference where the policy is `Always`.
fn events(column: &str) -> Vec<Event> {
    match column {
        "Start" => vec![Event::Start],
        "Ready" => vec![Event::Ready],
        "Exited" => vec![Event::Exited { success: true }, DIED],
        "Timer" => vec![Event::Timer],
        "Recycle" => vec![Event::Recycle],
        "Hibernate" => vec![Event::Hibernate],
        "Wake" => vec![Event::Wake],
        "Stop" => vec![Event::Stop],
        column => panic!("no event {column}"),
    }
}

/// The rows of the table, without the line below its head.
fn table() -> Vec<Vec<&'static str>> {
    let lines = include_str!("../../supervisor.rs").lines();
    let rows = lines.filter_map(|line| line.strip_prefix("//! |")?.strip_suffix('|'));
    let rows = rows.filter(|row| !row.starts_with("---"));
    rows.map(|row| row.split('|').map(str::trim).collect())
        .collect()
}

fn at(state: State, max_restarts: u64) -> Supervisor {
    Supervisor {
        policy: policy(max_restarts, 60),
        state,
        restarts: VecDeque::new(),
    }
}

#[test]
fn the_documented_table_is_what_happens() {
    let table = table();
    let (head, rows) = table.split_first().unwrap();
    assert_eq!((head.len(), rows.len()), (9, STATES.len()));
    for (state, row) in STATES.into_iter().zip(rows) {
        assert_eq!(row[0], name(state), "the order of the rows");
        for (column, cell) in head.iter().zip(row).skip(1) {
            for event in events(column) {
                check(state, event, cell);
            }
        }
    }
}

/// Checks one cell, of which the second word, if it has two, is for who may not restart.
#[track_caller]
fn check(state: State, event: Event, cell: &str) {
    let (may, may_not) = cell.split_once(" or ").unwrap_or((cell, cell));
    for (max_restarts, wanted) in [(1, may), (0, may_not)] {
        let mut supervisor = at(state, max_restarts);
        let actions = supervisor.step(UNTIL, event, 0.0);
        let found = name(supervisor.state());
        if wanted.is_empty() {
            assert_eq!(
                (supervisor.state(), actions),
                (state, Vec::new()),
                "{event:?}"
            );
        } else {
            assert_eq!(found, wanted, "{state:?}, {event:?}");
        }
    }
}

#[test]
fn an_early_timer_is_set_again() {
    let mut supervisor = at(State::Backoff { until: UNTIL }, 1);
    let early = UNTIL.checked_sub(Duration::from_nanos(1)).unwrap();
    let again = [Action::Wait { until: UNTIL }];
    assert_eq!(supervisor.step(early, Event::Timer, 0.0), again);
    assert_eq!(supervisor.state(), State::Backoff { until: UNTIL });
}

/// A machine after these events, as far as each could happen.
fn after(events: &[(Event, u64)], max_restarts: u64) -> (Supervisor, Now) {
    let mut supervisor = at(State::Stopped, max_restarts);
    let (mut driver, mut now) = (Driver::default(), Now::ZERO);
    for (event, pause) in events {
        now += Duration::from_millis(*pause);
        let before = supervisor.state();
        if driver.possible(*event, now, before) {
            let actions = supervisor.step(now, *event, 0.5);
            driver.apply(*event, now, before, &actions);
        }
    }
    (supervisor, now)
}

/// What happens next where processes start, end when they are told to, and somebody is waiting.
fn next(state: State, now: &mut Now) -> Option<Event> {
    match state {
        State::Starting => Some(Event::Ready),
        State::Retiring(_) | State::Stopping => Some(DIED),
        State::Asleep => Some(Event::Wake),
        State::Backoff { until } => {
            *now = until.max(*now);
            Some(Event::Timer)
        }
        State::Stopped | State::Running | State::GivenUp => None,
    }
}

proptest! {
    #[test]
    fn every_state_is_left_where_somebody_waits(
        events in prop::collection::vec((event(), 0u64..5000), 0..100),
        max_restarts in 0u64..4,
    ) {
        let (mut supervisor, mut now) = after(&events, max_restarts);
        // From falling asleep: told to, gone, woken, started, ready.
        for _ in 0..5 {
            if let Some(event) = next(supervisor.state(), &mut now) {
                supervisor.step(now, event, 0.5);
            }
        }
        prop_assert_eq!(next(supervisor.state(), &mut now), None);
    }

    #[test]
    fn a_stop_is_the_end_and_leaves_no_process(
        events in prop::collection::vec((event(), 0u64..5000), 0..100),
        max_restarts in 0u64..4,
    ) {
        let (mut supervisor, now) = after(&events, max_restarts);
        supervisor.step(now, Event::Stop, 0.5);
        if supervisor.state() != State::Stopped {
            prop_assert_eq!(supervisor.state(), State::Stopping);
            // Nothing but the end of the process matters any more.
            for event in [Event::Start, Event::Ready, Event::Timer, Event::Recycle, Event::Wake] {
                prop_assert_eq!(supervisor.step(now, event, 0.5), Vec::new());
            }
            supervisor.step(now, DIED, 0.5);
        }
        prop_assert_eq!(supervisor.state(), State::Stopped);
    }

    #[test]
    fn a_wait_doubles_up_to_its_limit_and_is_spread_by_a_fifth(
        deaths in 1u32..40,
        chance in 0.0..1.0f64,
    ) {
        let mut supervisor = running(policy(u64::MAX, 1_000_000));
        let mut now = Now::ZERO;
        for death in 0..deaths {
            supervisor.step(now, DIED, chance);
            let State::Backoff { until } = supervisor.state() else {
                panic!("{:?}", supervisor.state());
            };
            let least = Duration::from_secs(1 << death.min(6)).min(Duration::from_secs(60));
            let wait = until - now;
            prop_assert!(wait >= least && wait <= least * 6 / 5, "{death}: {wait:?}");
            now = until;
            supervisor.step(now, Event::Timer, chance);
            supervisor.step(now, Event::Ready, chance);
        }
    }
}
