//! JetStream keeps the contract, with a real server for each case.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;

use agentbus_transport::contract::Hosted;
use agentbus_transport::{Transport, contract_tests};

use support::Server;

async fn open() -> Arc<dyn Transport> {
    let server = Server::start();
    let url = server.jetstream();
    let transport = agentbus_transport_nats::open(&url).await.unwrap();
    Arc::new(Hosted::new(transport, server))
}

contract_tests!(
    open,
    agentbus_transport_nats::JetStreamTransport::CAPABILITIES
);
