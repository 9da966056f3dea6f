//! The life of one worker, as a state machine without I/O.
//!
//! Events come in with the time, actions come out; whoever drives it starts processes, sends
//! signals and sleeps. It promises that a process is only started when none is there, that
//! restarts within the sliding window never exceed their number, and that from every state but
//! [`State::GivenUp`] and [`State::Stopped`] something is under way that leads out of it.
//!
//! ```text
//!            Start                    Ready                     Hibernate
//! Stopped ----------> Starting --------------> Running ------------------> Retiring(Sleep)
//!    ^                   |  ^                   |    |  Recycle                 | Exited
//!    | Exited            |  |                   |    +--------> Retiring(Renew) v
//! Stopping <-- Stop -----|--|-------------------+                   | Exited  Asleep
//!                 Exited |  | Timer               Exited            v           | Wake
//!                        v  |                       |            Starting <-----+
//!                      Backoff <--------------------+
//!                        | too many in the window, or the policy
//!                        v
//!                     GivenUp ---- Start ----> Starting
//! ```
//!
//! All of it, each state with what an event makes of it. Where nothing stands, nothing happens: a
//! late timer, a second wish for what is under way, news of a process that is gone.
//!
//! | | Start | Ready | Exited | Timer | Recycle | Hibernate | Wake | Stop |
//! |---|---|---|---|---|---|---|---|---|
//! | Stopped | Starting | | | | | | | |
//! | Starting | | Running | Backoff or GivenUp | | | | | Stopping |
//! | Running | Retiring(Renew) | | Backoff or GivenUp | | Retiring(Renew) | Retiring(Sleep) | | Stopping |
//! | Retiring(Renew) | | | Starting | | | | | Stopping |
//! | Retiring(Sleep) | Retiring(Renew) | | Asleep | | | | Retiring(Renew) | Stopping |
//! | Asleep | Starting | | | | | | Starting | Stopped |
//! | Backoff | Starting | | | Starting | | | | Stopped |
//! | GivenUp | Starting | | | | | | | Stopped |
//! | Stopping | | | Stopped | | | | | |

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::Restart;
use crate::limits::Limits;

#[cfg(test)]
mod tests;

/// Time since the bus started.
pub(crate) type Now = Duration;

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No process, and none wanted: before the first start and after a stop.
    Stopped,
    /// A process is being started or has not yet answered its handshake.
    Starting,
    /// The process takes work.
    Running,
    /// The process was told to end, and will be followed by a fresh one or by sleep.
    Retiring(After),
    /// No process until somebody needs it.
    Asleep,
    /// No process until the wait is over.
    Backoff {
        /// When it is.
        until: Now,
    },
    /// No process, and none until an operator asks for it.
    GivenUp,
    /// The process was told to end for good.
    Stopping,
}

/// What follows a process that was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// A fresh one.
    Renew,
    /// None until it is needed.
    Sleep,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The pool opens, or an operator asks for the worker.
    Start,
    /// The process runs and its handshake, if any, is done.
    Ready,
    /// The process is gone, or never was.
    Exited {
        /// Whether it returned 0.
        success: bool,
    },
    /// The wait is over.
    Timer,
    /// It is due to be replaced and has no work.
    Recycle,
    /// It has had no work for long enough.
    Hibernate,
    /// Somebody needs it.
    Wake,
    /// The pool closes.
    Stop,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a process.
    Spawn,
    /// Give the process work.
    Attach,
    /// Answer what it owes; lines that wait for it are lost.
    Fail,
    /// Tell the process to end, and kill it if it does not.
    Terminate,
    /// Send [`Event::Timer`] then.
    Wait {
        /// When.
        until: Now,
    },
}

/// When and how often to restart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) restart: Restart,
    pub(crate) max_restarts: u64,
    pub(crate) window: Duration,
    pub(crate) backoff: Duration,
    pub(crate) backoff_max: Duration,
}

/// The life of one worker.
#[derive(Debug)]
pub(crate) struct Supervisor {
    policy: Policy,
    state: State,
    /// Times of the restarts within the window, oldest first.
    restarts: VecDeque<Now>,
}

impl Policy {
    pub(crate) fn new(restart: Restart, limits: &Limits) -> Self {
        Self {
            restart,
            max_restarts: limits.max_restarts,
            window: Duration::from_secs(limits.restart_window_sec),
            backoff: Duration::from_millis(limits.restart_delay_ms),
            backoff_max: Duration::from_secs(limits.restart_delay_max_sec),
        }
    }
}

impl Supervisor {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Stopped,
            restarts: VecDeque::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Moves on. `chance` lies between 0 and 1 and spreads restarts over time.
    pub(crate) fn step(&mut self, now: Now, event: Event, chance: f64) -> Vec<Action> {
        use Event as E;
        use State as S;
        match (self.state, event) {
            // ## (Stopped | GivenUp) => Starting
            // An operator's wish clears the count: he knows what he changed.
            (S::Stopped | S::GivenUp, E::Start) => {
                self.restarts.clear();
                self.enter(S::Starting, &[Action::Spawn])
            }
            // ## (Asleep | Backoff) => Starting
            (S::Asleep, E::Wake | E::Start) | (S::Backoff { .. }, E::Start) => {
                self.enter(S::Starting, &[Action::Spawn])
            }
            (S::Backoff { until }, E::Timer) if now >= until => {
                self.enter(S::Starting, &[Action::Spawn])
            }
            // An early timer is set again, so that the state is always left.
            (S::Backoff { until }, E::Timer) => vec![Action::Wait { until }],
            // ## Starting => Running
            (S::Starting, E::Ready) => self.enter(S::Running, &[Action::Attach]),
            // ## (Starting | Running) => (Backoff | GivenUp)
            (S::Starting | S::Running, E::Exited { success }) => self.ended(now, success, chance),
            // ## Running => Retiring
            // An operator's restart of a running worker is a recycling too.
            (S::Running, E::Recycle | E::Start) => {
                self.enter(S::Retiring(After::Renew), &[Action::Terminate])
            }
            (S::Running, E::Hibernate) => {
                self.enter(S::Retiring(After::Sleep), &[Action::Terminate])
            }
            // ## Retiring(Sleep) => Retiring(Renew): needed before it slept
            (S::Retiring(After::Sleep), E::Wake | E::Start) => {
                self.enter(S::Retiring(After::Renew), &[])
            }
            // ## Retiring => (Starting | Asleep)
            (S::Retiring(After::Renew), E::Exited { .. }) => {
                self.enter(S::Starting, &[Action::Spawn])
            }
            (S::Retiring(After::Sleep), E::Exited { .. }) => self.enter(S::Asleep, &[]),
            // ## (Starting | Running) => Stopping
            (S::Starting | S::Running, E::Stop) => self.enter(S::Stopping, &[Action::Terminate]),
            // ## Retiring => Stopping: it has been told already
            (S::Retiring(_), E::Stop) => self.enter(S::Stopping, &[]),
            // ## Stopping => Stopped
            (S::Stopping, E::Exited { .. }) => self.enter(S::Stopped, &[Action::Fail]),
            // ## (Asleep | Backoff | GivenUp) => Stopped
            (S::Asleep | S::Backoff { .. } | S::GivenUp, E::Stop) => {
                self.enter(S::Stopped, &[Action::Fail])
            }
            // Late timers, a second wish for what is under way, news of a process that is gone.
            _ => Vec::new(),
        }
    }

    fn enter(&mut self, state: State, actions: &[Action]) -> Vec<Action> {
        self.state = state;
        actions.to_vec()
    }

    /// Decides what follows a process that ended by itself.
    fn ended(&mut self, now: Now, success: bool, chance: f64) -> Vec<Action> {
        let wanted = match self.policy.restart {
            Restart::Always => true,
            Restart::OnFailure => !success,
            Restart::Never => false,
        };
        let start = now.saturating_sub(self.policy.window);
        while self.restarts.front().is_some_and(|at| *at < start) {
            self.restarts.pop_front();
        }
        let recent = self.restarts.len() as u64;
        if !wanted || recent >= self.policy.max_restarts {
            return self.enter(State::GivenUp, &[Action::Fail]);
        }
        let until = now + self.backoff(recent, chance);
        self.restarts.push_back(until);
        self.enter(
            State::Backoff { until },
            &[Action::Fail, Action::Wait { until }],
        )
    }

    /// Doubles with each recent restart and adds up to a fifth, so that workers which fell
    /// together do not all rise together.
    fn backoff(&self, recent: u64, chance: f64) -> Duration {
        let doubled = u32::try_from(recent)
            .ok()
            .and_then(|recent| 2u32.checked_pow(recent))
            .and_then(|factor| self.policy.backoff.checked_mul(factor));
        let wait = doubled.map_or(self.policy.backoff_max, |wait| {
            wait.min(self.policy.backoff_max)
        });
        wait + wait.mul_f64(chance.clamp(0.0, 1.0) / 5.0)
    }
}
