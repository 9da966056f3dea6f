//! Two buses on one server: calls, streams, cancellation and durable names.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use agentbus::contract::Place;

use support::Server;

async fn open() -> Place {
    let server = Server::start();
    Place::at(server.url(), server)
}

agentbus::two_bus_tests!(open);
