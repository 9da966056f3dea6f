//! A host of its own for a test, and requests as raw text.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::Path;
use std::time::Duration;

use agentbus::Bus;
use agentbus_server::{AuthMode, RunningServer, Server, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A free port, and the data in a directory of its own.
pub(crate) fn config(dir: &Path) -> ServerConfig {
    let mut config = ServerConfig::new(dir.join("data"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.drain = Duration::from_secs(2);
    config
}

/// A host that wants no token.
pub(crate) async fn open_server(dir: &Path, bus: Bus) -> RunningServer {
    let mut config = config(dir);
    config.auth = AuthMode::Off;
    Server::start(config, bus).await.unwrap()
}

/// A request whose connection ends with its answer.
pub(crate) fn post(server: &RunningServer, path: &str, headers: &str, body: &str) -> String {
    let (host, length) = (server.local_addr(), body.len());
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

/// Sends a request and returns the status and the whole answer.
pub(crate) async fn ask(server: &RunningServer, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(60), reading)
        .await
        .unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}
