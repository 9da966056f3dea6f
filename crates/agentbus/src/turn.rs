//! The rest of a worker's turn on its thread.
//!
//! A reply makes its caller the next task of the thread that the handler ran on. After three tasks
//! that were woken like this in one turn the runtime would rather put the fourth among those that
//! any thread may take, and wakes a sleeping thread for it. Of a call and its reply, the fourth is
//! the caller, who runs here long before the other thread is awake: the wake costs some ten times
//! the call, and nothing comes of it. A turn whose budget is spent ends sooner, before anything
//! wakes a thread; whoever is next begins a turn of its own.

use std::cell::Cell;
use std::task::{Context, Poll};

use tokio::task::coop::{self, RestoreOnPending};

/// More than the budget of a turn. Without a budget, outside of a task of the runtime, there is
/// nothing to spend however often one tries.
const BUDGET_MAX: usize = 256;

thread_local! {
    /// What puts the budget of any turn of this thread back to where it was before the last piece of
    /// it was spent. Without it the budget would be counted down piece by piece, for a third of a
    /// microsecond.
    static LAST: Cell<Option<RestoreOnPending>> = const { Cell::new(None) };
}

/// Spends the budget of this turn. Only for who is about to wait: what it would be ready for next
/// is as pending as anything else.
pub(crate) fn end(cx: &mut Context<'_>) {
    LAST.with(|last| {
        drop(last.take());
        for _ in 0..BUDGET_MAX {
            // Asked first: whoever is refused a piece is woken for another attempt.
            if !coop::has_budget_remaining() {
                return;
            }
            if let Poll::Ready(piece) = coop::poll_proceed(cx)
                && let Some(before) = last.replace(Some(piece))
            {
                before.made_progress();
            }
        }
    });
}
