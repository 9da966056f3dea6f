//! Two buses on one server: calls, streams and cancellation, over both transports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

mod nats {
    use agentbus::contract::Place;

    use crate::support::Server;

    async fn open() -> Place {
        let server = Server::start();
        Place::at(server.url(), server)
    }

    agentbus::two_bus_tests!(open);
}

mod jetstream {
    use agentbus::contract::Place;

    use crate::support::Server;

    async fn open() -> Place {
        let server = Server::start();
        Place::at(server.jetstream(), server)
    }

    agentbus::two_bus_tests!(open);
}
