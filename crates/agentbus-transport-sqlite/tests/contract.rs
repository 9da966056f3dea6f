//! A log in a file keeps the contract.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod common;

use std::sync::Arc;

use agentbus_transport::contract::Hosted;
use agentbus_transport::{Transport, contract_tests};

async fn open() -> Arc<dyn Transport> {
    let dir = common::directory();
    let transport = common::open(dir.path()).await;
    Arc::new(Hosted::new(Arc::new(transport), dir))
}

contract_tests!(
    open,
    agentbus_transport_sqlite::SqliteTransport::CAPABILITIES
);
