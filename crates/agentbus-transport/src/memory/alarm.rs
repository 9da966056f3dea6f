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
    /// Begins with the first call that waits, so that a bus without calls has no such task.
    keeper: Mutex<Option<AbortHandle>>,
}

#[derive(Debug, Default)]
struct State {
    /// What the keeper sleeps for, or will after its look.
    set_for: Option<Instant>,
    /// Whether there is a keeper, or will be at once.
    kept: bool,
}

impl Alarm {
    /// Sees to it that somebody looks at that moment.
    pub(super) fn set(common: &Arc<Common>, due: Instant) {
        let alarm = &common.alarm;
        let mut state = alarm.state.lock();
        let begins = !std::mem::replace(&mut state.kept, true);
        let earlier = state.bring_forward(due);
        drop(state);
        if begins {
            // A runtime that is ending drops it at once, and the watch with it.
            let watch = Watch(Arc::clone(common));
            let keeper = tokio::spawn(keep(watch)).abort_handle();
            *alarm.keeper.lock() = Some(keeper);
        } else if earlier {
            alarm.earlier.notify_one();
        }
    }

    /// Ends the watch: nobody is left who could wait.
    pub(super) fn end(&self) {
        let keeper = self.keeper.lock().take();
        if let Some(keeper) = keeper {
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

async fn keep(watch: Watch) {
    let Common { alarm, inboxes, .. } = &*watch.0;
    loop {
        alarm.state.lock().set_for = None;
        let begun = Instant::now();
        let next = inboxes.wake_due(begun).await;
        if let Some(next) = next {
            let rested = Instant::now() + REST * begun.elapsed();
            alarm.state.lock().bring_forward(next.max(rested));
        }
        let set_for = alarm.state.lock().set_for;
        match set_for {
            Some(moment) => tokio::select! {
                () = sleep_until(moment) => {}
                () = alarm.earlier.notified() => {}
            },
            None => alarm.earlier.notified().await,
        }
    }
}

/// The watch of a keeper. However it ends, also before the keeper has begun, whoever waits looks
/// again, and the first to do so begins another.
struct Watch(Arc<Common>);

impl Drop for Watch {
    fn drop(&mut self) {
        *self.0.alarm.state.lock() = State::default();
        self.0.inboxes.end_watch();
    }
}
