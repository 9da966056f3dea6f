//! One timer for all calls of a bus.
//!
//! A timer of the runtime's own for each call would be the first in an empty wheel nearly every
//! time, and each first timer wakes the runtime's driver, which sleeps on another core. Here the
//! deadlines stand in one ordered map, and one task sleeps until the earliest. Calls mostly have
//! the same timeout, so a new deadline is later than the one slept for and wakes nobody.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agentbus_transport::clock::moment_in;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// The deadlines of one bus. The task that watches them ends with it.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Tells the keeper that a deadline came which is earlier than the one it sleeps for.
    earlier: Notify,
}

#[derive(Debug)]
struct State {
    /// Never empty, because an empty map would give its memory back, and ask for it again with
    /// the next call.
    due: BTreeMap<(Instant, u64), Waker>,
    next_number: u64,
    sleeping_until: Option<Instant>,
    /// Begins with the first deadline, so that a bus without calls has no such task.
    keeper: Option<AbortHandle>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            due: BTreeMap::from([((moment_in(Duration::MAX), 0), Waker::noop().clone())]),
            next_number: 0,
            sleeping_until: None,
            keeper: None,
        }
    }
}

impl Deadlines {
    /// Makes a deadline; it is watched from its first poll on.
    pub(crate) fn after(&self, span: Duration) -> Deadline<'_> {
        Deadline {
            shared: &self.shared,
            at: moment_in(span),
            number: None,
        }
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        if let Some(keeper) = self.shared.state.lock().keeper.take() {
            keeper.abort();
        }
    }
}

/// A future that is ready once its time has come.
#[derive(Debug)]
pub(crate) struct Deadline<'a> {
    shared: &'a Arc<Shared>,
    at: Instant,
    /// Set while it stands in the map.
    number: Option<u64>,
}

impl Future for Deadline<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Just made, it cannot have come yet; the clock is asked only when something woke us.
        if self.number.is_some() && Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let shared = self.shared;
        let mut state = shared.state.lock();
        let number = *self.number.get_or_insert_with(|| {
            state.next_number += 1;
            state.next_number
        });
        state.due.insert((self.at, number), cx.waker().clone());
        // The runtime of an earlier keeper may be gone, and the keeper with it.
        if state.keeper.as_ref().is_none_or(AbortHandle::is_finished) {
            let keeper = tokio::spawn(keep(Arc::downgrade(shared)));
            state.keeper = Some(keeper.abort_handle());
        }
        let earlier = state.sleeping_until.is_none_or(|until| self.at < until);
        if earlier {
            state.sleeping_until = Some(self.at);
        }
        drop(state);
        if earlier {
            shared.earlier.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Deadline<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.state.lock().due.remove(&(self.at, number));
        }
    }
}

async fn keep(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let wake_at = shared.wake_due();
        let earlier = shared.earlier.notified();
        match wake_at {
            Some(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = earlier => {}
            },
            None => earlier.await,
        }
    }
}

impl Shared {
    /// Wakes those whose time has come; returns when the next one's comes.
    fn wake_due(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        // Splits off what is due up to now, whatever its number.
        let later = state.due.split_off(&(Instant::now(), u64::MAX));
        let due = std::mem::replace(&mut state.due, later);
        state.sleeping_until = state.due.keys().next().map(|(at, _)| *at);
        let next = state.sleeping_until;
        drop(state);
        due.into_values().for_each(Waker::wake);
        next
    }
}
