//! A bus reached over its WebSocket keeps the contract of a transport.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::sync::Arc;

use agentbus::Bus;
use agentbus_server::{AuthMode, Server, ServerConfig};
use agentbus_transport::{Transport, contract_tests};
use agentbus_transport_ws::WsTransport;

async fn open() -> Arc<dyn Transport> {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ServerConfig::new(dir.path().join("data"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.auth = AuthMode::Off;
    let bus = Bus::builder("server").connect().await.unwrap();
    let server = Server::start(config, bus).await.unwrap();
    let transport = WsTransport::connect(&server.url(), "contract")
        .await
        .unwrap();
    // The server lives for as long as the test's process, and so must its directory.
    Box::leak(Box::new((server, dir)));
    Arc::new(transport)
}

contract_tests!(open);
