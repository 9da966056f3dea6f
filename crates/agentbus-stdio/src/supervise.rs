//! When a worker is started again.
//!
//! Restarts are counted in a sliding window. Each one within it waits twice as long as the one
//! before, so that a worker which dies at once is not started in a tight loop, and one that dies
//! now and then comes back soon, for ever.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::limits::RESTART_DELAY_MAX;

/// The life of one worker.
///
/// ## Starting => Running => Resting => Starting …, until GivenUp or Stopped, which are final.
/// A start that fails goes from Starting to Resting too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its program is being started.
    Starting,
    /// It takes messages.
    Running,
    /// It ended and is started again at this time.
    Resting {
        /// When.
        until: Instant,
    },
    /// It ended too often.
    GivenUp,
    /// It was told to end, or ended well where that is the end.
    Stopped,
}

/// Decides about one worker.
#[derive(Debug)]
pub struct Supervisor {
    state: State,
    /// When it was started again, within the window.
    restarts: VecDeque<Instant>,
    max: usize,
    window: Duration,
    delay: Duration,
    restart_on_success: bool,
}

impl Supervisor {
    /// Makes the supervisor of a worker that is about to be started.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            state: State::Starting,
            restarts: VecDeque::new(),
            max: limits.max_restarts,
            window: limits.restart_window,
            delay: limits.restart_delay,
            restart_on_success: limits.restart_on_success,
        }
    }

    /// Where the worker is in its life.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The program runs.
    pub fn started(&mut self) {
        if self.state == State::Starting {
            self.state = State::Running;
        }
    }

    /// The program ended, or could not be started. `jitter` between 0 and 1 spreads the restarts
    /// of workers that died together over a tenth of their delay.
    pub fn ended(&mut self, success: bool, now: Instant, jitter: f64) -> State {
        if !matches!(self.state, State::Starting | State::Running) {
            return self.state;
        }
        while self
            .restarts
            .front()
            .is_some_and(|at| *at + self.window <= now)
        {
            self.restarts.pop_front();
        }
        self.state = if success && !self.restart_on_success {
            State::Stopped
        } else if self.restarts.len() >= self.max {
            State::GivenUp
        } else {
            let until = now + self.rest(jitter);
            self.restarts.push_back(until);
            State::Resting { until }
        };
        self.state
    }

    fn rest(&self, jitter: f64) -> Duration {
        let doublings = u32::try_from(self.restarts.len())
            .unwrap_or(u32::MAX)
            .min(16);
        let delay = self
            .delay
            .saturating_mul(1 << doublings)
            .min(RESTART_DELAY_MAX);
        delay.mul_f64(1.0 + 0.1 * jitter.clamp(0.0, 1.0))
    }

    /// The rest is over.
    pub fn rested(&mut self) {
        if matches!(self.state, State::Resting { .. }) {
            self.state = State::Starting;
        }
    }

    /// The worker is to end for good.
    pub fn stop(&mut self) {
        if self.state != State::GivenUp {
            self.state = State::Stopped;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn supervisor(max: usize, window: u64) -> Supervisor {
        Supervisor::new(&Limits {
            max_restarts: max,
            restart_window: Duration::from_secs(window),
            ..Limits::default()
        })
    }

    fn rest_after(supervisor: &mut Supervisor, now: Instant) -> Option<Duration> {
        match supervisor.ended(false, now, 0.0) {
            State::Resting { until } => {
                supervisor.rested();
                supervisor.started();
                Some(until - now)
            }
            _ => None,
        }
    }

    #[test]
    fn v32_a_worker_that_dies_at_once_waits_longer_and_longer() {
        let (mut worker, mut now) = (supervisor(9, 1000), Instant::now());
        let mut rests = Vec::new();
        while let Some(rest) = rest_after(&mut worker, now) {
            rests.push(rest.as_secs());
            now += rest;
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(worker.state(), State::GivenUp);
    }

    #[test]
    fn v33_a_worker_that_lives_nearly_as_long_as_the_window_is_never_given_up() {
        let (mut worker, mut now) = (supervisor(2, 2), Instant::now());
        for _ in 0..50 {
            now += Duration::from_millis(1500);
            let rest = rest_after(&mut worker, now);
            assert!(rest.is_some());
            now += rest.unwrap_or_default();
        }
    }

    #[test]
    fn v31_an_exit_with_success_is_a_matter_of_policy() {
        let now = Instant::now();
        assert!(matches!(
            supervisor(5, 60).ended(true, now, 0.0),
            State::Resting { .. }
        ));
        let mut once = supervisor(5, 60);
        once.restart_on_success = false;
        assert_eq!(once.ended(true, now, 0.0), State::Stopped);
        assert_eq!(supervisor(0, 60).ended(false, now, 0.0), State::GivenUp);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Started,
        Ended(bool),
        Rested,
        Stop,
        Wait(u64),
    }

    proptest! {
        #[test]
        fn never_more_restarts_in_a_window_than_allowed_and_the_end_is_the_end(
            steps in prop::collection::vec(prop_oneof![
                4 => Just(Step::Started),
                4 => any::<bool>().prop_map(Step::Ended),
                4 => Just(Step::Rested),
                1 => Just(Step::Stop),
                4 => (0_u64..90).prop_map(Step::Wait),
            ], 1..200),
            max in 0_usize..4,
        ) {
            let (mut worker, mut now) = (supervisor(max, 60), Instant::now());
            let mut scheduled: Vec<Instant> = Vec::new();
            for step in steps {
                let before = worker.state();
                match step {
                    Step::Started => worker.started(),
                    Step::Ended(success) => {
                        if let State::Resting { until } = worker.ended(success, now, 0.5)
                            && !matches!(before, State::Resting { .. })
                        {
                            scheduled.push(until);
                            let window = Duration::from_secs(60);
                            let recent = scheduled.iter().filter(|at| **at + window > now);
                            prop_assert!(recent.count() <= max);
                        }
                    }
                    Step::Rested => worker.rested(),
                    Step::Stop => worker.stop(),
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                }
                if matches!(before, State::GivenUp | State::Stopped) {
                    prop_assert_eq!(worker.state(), before);
                }
            }
        }
    }
}
