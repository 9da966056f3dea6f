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
    /// What the keeper sleeps for, or will after its look.
    set_for: Mutex<Option<Instant>>,
    /// Tells the keeper that somebody is to be woken before the moment that it sleeps for.
    earlier: Notify,
    /// Begins with the first call that waits, so that a bus without calls has no such task. Never
    /// locked by the keeper, which a runtime that is ending may drop while it is being spawned.
    keeper: Mutex<Option<AbortHandle>>,
}

impl Alarm {
    /// Sees to it that somebody looks at that moment.
    pub(super) fn set(common: &Arc<Common>, due: Instant) {
        let alarm = &common.alarm;
        let mut keeper = alarm.keeper.lock();
        // The runtime of an earlier keeper may be gone, and the keeper with it.
        if keeper.as_ref().is_none_or(AbortHandle::is_finished) {
            let watch = Watch(Arc::clone(common));
            *keeper = Some(tokio::spawn(keep(watch)).abort_handle());
        }
        drop(keeper);
        if alarm.bring_forward(due) {
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

    /// Whether that moment is earlier than all that were known, and is known now.
    fn bring_forward(&self, due: Instant) -> bool {
        let mut set_for = self.set_for.lock();
        let earlier = set_for.is_none_or(|set_for| due < set_for);
        if earlier {
            *set_for = Some(due);
        }
        earlier
    }
}

async fn keep(watch: Watch) {
    let Common { alarm, inboxes, .. } = &*watch.0;
    loop {
        *alarm.set_for.lock() = None;
        let begun = Instant::now();
        let next = inboxes.wake_due(begun).await;
        if let Some(next) = next {
            let rested = Instant::now() + REST * begun.elapsed();
            alarm.bring_forward(next.max(rested));
        }
        let set_for = *alarm.set_for.lock();
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
        *self.0.alarm.set_for.lock() = None;
        self.0.inboxes.end_watch();
    }
}
