//! A log in a file keeps the contract.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod common;

use std::sync::Arc;

use agentbus_transport::{Transport, contract_tests};

async fn open() -> Arc<dyn Transport> {
    Arc::new(common::Housed::open().await)
}

contract_tests!(open);
