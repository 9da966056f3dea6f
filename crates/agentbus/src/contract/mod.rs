//! The kit of two buses: what an agent and its caller may count on over any carrier, as cases.
//!
//! ```ignore
//! agentbus::two_bus_tests!(open);
//!
//! async fn open() -> Place { … }
//! ```
//!
//! The contract kit of transports looks at one end of a carrier; here two ends meet, each with a
//! connection of its own where the carrier has connections. No case assumes how quick a carrier
//! is; each waits, with one generous guard against hanging.

#![allow(
    clippy::unwrap_used,
    reason = "a case that cannot go on should say where"
)]
#![allow(missing_docs, reason = "the cases are named for what they check")]

mod calls;
mod collected;
mod events;
mod place;
mod streams;
mod traces;

use std::time::Duration;

use tokio::sync::mpsc;

pub use calls::*;
pub use collected::{Collected, check_child};
pub use events::*;
pub use place::Place;
pub use streams::*;
pub use traces::*;

/// Longest time that any step of a case may take before the case has failed.
const GUARD: Duration = Duration::from_secs(60);

/// Makes one test of each case.
#[macro_export]
macro_rules! two_bus_tests {
    ($open:path) => {
        $crate::two_bus_tests!($open:
            a_call_is_answered_and_a_missing_target_is_known_at_once,
            an_error_of_a_handler_is_told_to_its_caller,
            a_call_that_is_given_up_stops_its_handler,
            handlers_work_side_by_side,
            agents_of_one_name_share_its_calls,
            a_stream_of_nobody_ends_at_once,
            frames_arrive_in_order_and_a_dropped_stream_stops_its_handler,
            a_stream_that_fails_ends_with_the_error,
            an_event_reaches_the_other_bus,
            a_durable_name_gets_what_came_while_it_was_away,
            the_spans_of_both_buses_are_one_trace,
        );
    };
    ($open:path: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::contract::$case($open().await).await;
            }
        )*
    };
}

async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(GUARD, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {GUARD:?}"),
    }
}

/// Tells that the handler that holds it is over, however it ended.
struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody listens any more once the case is over.
        let _ = self.0.send(());
    }
}
