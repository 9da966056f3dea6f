//! The in-memory broker keeps the contract.

use std::sync::Arc;

use agentbus_transport::{MemoryTransport, Transport, contract_tests};

async fn open() -> Arc<dyn Transport> {
    Arc::new(MemoryTransport::new())
}

contract_tests!(open, MemoryTransport::CAPABILITIES);
