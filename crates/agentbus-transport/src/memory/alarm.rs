//! Wakes the callers whose time is over.
//!
//! A caller notes, with its waker and under the lock that it holds anyway, how long it will wait.
//! One task for all of them sleeps until the earliest of these moments and then looks through the
//! inboxes. Calls mostly have the same timeout, so a new one is later than what is slept for and
//! tells nobody; and they mostly end long before it, so that one look for many is enough.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Common;

/// After a look the task rests for so many times what the look took. It matters where hundreds of
/// thousands of calls wait, of which each ends at a moment of its own.
const REST: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Alarm {
    state: Mutex<State>,
    /// Tells the keeper that somebody is to be woken before the moment that it sleeps for.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What the keeper sleeps for, or will after its look.
    set_for: Option<Instant>,
    /// Begins with the first call that waits, so that a bus without calls has no such task.
    keeper: Option<AbortHandle>,
}

impl Alarm {
    /// Sees to it that somebody looks at that moment.
    pub(super) fn set(common: &Arc<Common>, due: Instant) {
        let mut state = common.alarm.state.lock();
        // The runtime of an earlier keeper may be gone, and the keeper with it.
        if state.keeper.as_ref().is_none_or(AbortHandle::is_finished) {
            let keeper = tokio::spawn(keep(Arc::clone(common)));
            state.keeper = Some(keeper.abort_handle());
        }
        if state.bring_forward(due) {
            drop(state);
            common.alarm.earlier.notify_one();
        }
    }

    /// Returns what the keeper sleeps for after a look that found this moment to be the next.
    fn reset(&self, next: Option<Instant>) -> Option<Instant> {
        let mut state = self.state.lock();
        if let Some(next) = next {
            state.bring_forward(next);
        }
        state.set_for
    }

    /// Ends the watch: nobody is left who could wait.
    pub(super) fn end(&self) {
        if let Some(keeper) = self.state.lock().keeper.take() {
            keeper.abort();
        }
    }
}

impl State {
    /// Whether that moment is earlier than all that were known, and is known now.
    fn bring_forward(&mut self, due: Instant) -> bool {
        let earlier = self.set_for.is_none_or(|set_for| due < set_for);
        if earlier {
            self.set_for = Some(due);
        }
        earlier
    }
}

async fn keep(common: Arc<Common>) {
    let _watch = Watch(&common);
    let alarm = &common.alarm;
    loop {
        alarm.state.lock().set_for = None;
        let begun = Instant::now();
        let next = common.inboxes.wake_due(begun).await;
        let rested = Instant::now() + REST * begun.elapsed();
        match alarm.reset(next.map(|next| next.max(rested))) {
            Some(moment) => tokio::select! {
                () = sleep_until(moment) => {}
                () = alarm.earlier.notified() => {}
            },
            None => alarm.earlier.notified().await,
        }
    }
}

/// Says that nobody watches any more, however the watch came to its end, so that the next call
/// begins another.
struct Watch<'a>(&'a Common);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.alarm.state.lock().set_for = None;
        self.0.inboxes.forget_watch();
    }
}
