//! Tells a peer's task to look again.
//!
//! It is rung with the mutex of the bus held and answered by one task. Rings that come before the
//! task has looked are one ring.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;

#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Bell {
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }

    /// Returns whether it was rung since the last time, and wakes the task when it is again.
    pub(super) fn was_rung(&self, context: &Context<'_>) -> bool {
        // Before the look: a ring in between wakes the task once too often, not once too rarely.
        self.task.register(context.waker());
        self.rung.swap(false, Ordering::AcqRel)
    }
}
