//! The life of a worker, in virtual time.

use proptest::prelude::*;

use super::*;

mod transitions;

const DIED: Event = Event::Exited { success: false };

fn policy(max_restarts: u64, window: u64) -> Policy {
    Policy {
        restart: Restart::Always,
        max_restarts,
        window: Duration::from_secs(window),
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_secs(60),
    }
}

fn running(policy: Policy) -> Supervisor {
    let mut supervisor = Supervisor::new(policy);
    assert_eq!(
        supervisor.step(Now::ZERO, Event::Start, 0.0),
        [Action::Spawn]
    );
    assert_eq!(
        supervisor.step(Now::ZERO, Event::Ready, 0.0),
        [Action::Attach]
    );
    supervisor
}

/// Lets a worker that lives for `life` die again and again, and returns its waits in seconds.
fn waits(policy: Policy, life: Duration, deaths: usize) -> Vec<u64> {
    let mut supervisor = running(policy);
    let mut now = Now::ZERO;
    let mut waits = Vec::new();
    for _ in 0..deaths {
        now += life;
        supervisor.step(now, DIED, 0.0);
        let State::Backoff { until } = supervisor.state() else {
            assert_eq!(supervisor.state(), State::GivenUp);
            break;
        };
        waits.push((until - now).as_secs());
        now = until;
        assert_eq!(supervisor.step(now, Event::Timer, 0.0), [Action::Spawn]);
        supervisor.step(now, Event::Ready, 0.0);
    }
    waits
}

#[test]
fn waits_double_up_to_their_limit() {
    let found = waits(policy(9, 600), Duration::ZERO, 20);
    assert_eq!(found, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn a_worker_that_lives_long_enough_is_restarted_for_ever() {
    let life = Duration::from_millis(1500);
    assert_eq!(waits(policy(2, 2), life, 100).len(), 100);
}

#[test]
fn waits_start_anew_after_a_quiet_window() {
    let found = waits(policy(5, 60), Duration::from_secs(100), 5);
    assert_eq!(found, [1, 1, 1, 1, 1]);
}

#[test]
fn no_restart_is_a_policy() {
    assert!(waits(policy(0, 60), Duration::ZERO, 1).is_empty());
    let mut never = running(Policy {
        restart: Restart::Never,
        ..policy(5, 60)
    });
    assert_eq!(never.step(Now::ZERO, DIED, 0.0), [Action::Fail]);
    let mut on_failure = running(Policy {
        restart: Restart::OnFailure,
        ..policy(5, 60)
    });
    on_failure.step(Now::ZERO, Event::Exited { success: true }, 0.0);
    assert_eq!(on_failure.state(), State::GivenUp);
    let mut always = running(policy(5, 60));
    always.step(Now::ZERO, Event::Exited { success: true }, 0.0);
    assert!(matches!(always.state(), State::Backoff { .. }));
}

#[test]
fn an_operator_revives_what_was_given_up() {
    let mut supervisor = running(policy(0, 60));
    supervisor.step(Now::ZERO, DIED, 0.0);
    assert_eq!(supervisor.state(), State::GivenUp);
    assert_eq!(
        supervisor.step(Now::ZERO, Event::Start, 0.0),
        [Action::Spawn]
    );
}

#[test]
fn a_sleeping_worker_wakes_and_a_tired_one_is_replaced() {
    let mut supervisor = running(policy(5, 60));
    assert_eq!(
        supervisor.step(Now::ZERO, Event::Hibernate, 0.0),
        [Action::Terminate]
    );
    assert_eq!(supervisor.step(Now::ZERO, DIED, 0.0), []);
    assert_eq!(supervisor.state(), State::Asleep);
    assert_eq!(
        supervisor.step(Now::ZERO, Event::Wake, 0.0),
        [Action::Spawn]
    );
    supervisor.step(Now::ZERO, Event::Ready, 0.0);
    assert_eq!(
        supervisor.step(Now::ZERO, Event::Recycle, 0.0),
        [Action::Terminate]
    );
    assert_eq!(supervisor.step(Now::ZERO, DIED, 0.0), [Action::Spawn]);
}

#[test]
fn a_worker_needed_before_it_slept_comes_back() {
    let mut supervisor = running(policy(5, 60));
    supervisor.step(Now::ZERO, Event::Hibernate, 0.0);
    assert_eq!(supervisor.step(Now::ZERO, Event::Wake, 0.0), []);
    assert_eq!(supervisor.step(Now::ZERO, DIED, 0.0), [Action::Spawn]);
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Start),
        4 => Just(Event::Ready),
        4 => any::<bool>().prop_map(|success| Event::Exited { success }),
        4 => Just(Event::Timer),
        1 => Just(Event::Recycle),
        1 => Just(Event::Hibernate),
        1 => Just(Event::Wake),
        1 => Just(Event::Stop),
    ]
}

/// What a driver knows: whether a process is there, and when each restart began.
#[derive(Debug, Default)]
struct Driver {
    process: bool,
    timer: Option<Now>,
    spawned_after_backoff: Vec<Now>,
}

impl Driver {
    /// Tells whether this event can happen now.
    fn possible(&self, event: Event, now: Now, state: State) -> bool {
        match event {
            Event::Ready => self.process && state == State::Starting,
            Event::Exited { .. } => self.process,
            Event::Timer => self.timer.is_some_and(|at| at <= now),
            _ => true,
        }
    }

    fn apply(&mut self, event: Event, now: Now, before: State, actions: &[Action]) {
        match event {
            Event::Exited { .. } => self.process = false,
            Event::Timer => self.timer = None,
            _ => {}
        }
        for action in actions {
            match action {
                Action::Spawn => {
                    assert!(!self.process, "never two processes");
                    self.process = true;
                    if event == Event::Timer && matches!(before, State::Backoff { .. }) {
                        self.spawned_after_backoff.push(now);
                    }
                }
                Action::Attach | Action::Terminate => assert!(self.process),
                Action::Wait { until } => self.timer = Some(*until),
                Action::Fail => assert!(!self.process),
            }
        }
    }

    /// From every state something leads on, and a process is there exactly where it should be.
    fn check(&self, state: State) {
        let lives = matches!(
            state,
            State::Starting | State::Running | State::Retiring(_) | State::Stopping
        );
        assert_eq!(self.process, lives, "{state:?}");
        if let State::Backoff { .. } = state {
            assert!(self.timer.is_some());
        }
    }
}

proptest! {
    #[test]
    fn the_machine_keeps_its_promises(
        events in prop::collection::vec((event(), 0u64..5000), 1..300),
        max_restarts in 0u64..4,
        chance in 0.0..1.0f64,
    ) {
        let window = Duration::from_secs(5);
        let mut supervisor = Supervisor::new(policy(max_restarts, 5));
        let mut driver = Driver::default();
        let (mut now, mut revived) = (Now::ZERO, Now::ZERO);
        for (event, pause) in events {
            now += Duration::from_millis(pause);
            let before = supervisor.state();
            if !driver.possible(event, now, before) {
                continue;
            }
            if event == Event::Start {
                revived = now;
                driver.spawned_after_backoff.clear();
            }
            let actions = supervisor.step(now, event, chance);
            driver.apply(event, now, before, &actions);
            driver.check(supervisor.state());
            let recent = |at: &&Now| **at + window > now && **at >= revived;
            let count = driver.spawned_after_backoff.iter().filter(recent).count();
            // The window slides over due times, so one late spawn may share it with the next.
            prop_assert!(count as u64 <= max_restarts + 1);
        }
    }
}
