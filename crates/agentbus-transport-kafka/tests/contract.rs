//! Kafka keeps the contract, on a real broker.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;

use agentbus_transport::{Transport, contract_tests};
use agentbus_transport_kafka::KafkaTransport;

async fn open() -> Arc<dyn Transport> {
    Arc::new(KafkaTransport::connect(&support::url()).await.unwrap())
}

contract_tests!(open, KafkaTransport::CAPABILITIES);
