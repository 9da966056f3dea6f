//! Two buses at one broker: calls, streams, cancellation and durable names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use agentbus::contract::Place;

async fn open() -> Place {
    Place::at(support::alone(), ())
}

agentbus::two_bus_tests!(open);
