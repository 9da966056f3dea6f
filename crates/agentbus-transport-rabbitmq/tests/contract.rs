//! RabbitMQ keeps the contract, over one real broker with a namespace for each case.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;

use agentbus_transport::{Transport, contract_tests};
use agentbus_transport_rabbitmq::RabbitTransport;

async fn open() -> Arc<dyn Transport> {
    let transport = RabbitTransport::connect(&support::alone()).await.unwrap();
    Arc::new(transport)
}

contract_tests!(open, RabbitTransport::CAPABILITIES);
