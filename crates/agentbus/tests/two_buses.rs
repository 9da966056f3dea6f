//! Two buses on one carrier that lives in this process.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod memory {
    use std::sync::Arc;

    use agentbus::contract::Place;
    use agentbus::transport::MemoryTransport;

    async fn open() -> Place {
        Place::shared(Arc::new(MemoryTransport::new()), ())
    }

    agentbus::two_bus_tests!(open);
}

/// A log has one process; the two share it.
#[cfg(feature = "sqlite")]
mod sqlite {
    use agentbus::contract::Place;
    use agentbus::transports;

    async fn open() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("bus.db").display());
        Place::shared(transports::open(&url, "both").await.unwrap(), dir)
    }

    agentbus::two_bus_tests!(open);
}
