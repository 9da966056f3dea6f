//! An invoke over HTTP beside a bare axum echo.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use agentbus::{Bus, Request};
use agentbus_server::{AuthMode, Server, ServerConfig};
use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::report::{Report, median, percentile};

const ROUNDS: usize = 10_000;
const CONNECTIONS: usize = 32;
const REPEATS: usize = 5;

pub(crate) async fn invoke(report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ServerConfig::new(dir.path().join("data"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.auth = AuthMode::Off;
    let bus = Bus::builder("bench").connect().await.unwrap();
    bus.handle("echo", |r: Request| {
        std::future::ready(Ok(r.payload().cloned()))
    })
    .await
    .unwrap();
    let server = Server::start(config, bus).await.unwrap();
    let bare = bare_echo().await;
    let (mut p50, mut rates) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for _ in 0..REPEATS {
        p50.0.push(latency(server.local_addr()).await);
        p50.1.push(latency(bare).await);
        rates.0.push(rate(server.local_addr()).await);
        rates.1.push(rate(bare).await);
    }
    let what = "HTTP invoke, p50 (baseline: bare axum echo)";
    report.latency(what, median(p50.0), median(p50.1), "≤ 2 × baseline");
    let what = "HTTP invoke, 32 connections (baseline: bare axum echo)";
    report.rate(what, median(rates.0), median(rates.1), "≥ 0.6 × baseline");
    server.shutdown().await;
}

async fn bare_echo() -> SocketAddr {
    let router = Router::new().route("/v1/agents/echo/invoke", post(|body: Bytes| async { body }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// One kept-alive connection that sends the same request again and again.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "POST /v1/agents/echo/invoke HTTP/1.1\r\nHost: {address}\r\nContent-Length: 13\r\n\r\n{{\"msg\": \"hi\"}}"
        );
        Self {
            stream,
            request: request.into_bytes(),
            buffer: vec![0; 4096],
        }
    }

    async fn ask(&mut self) {
        self.stream.write_all(&self.request).await.unwrap();
        let mut length = 0;
        // Answers end with the echoed body.
        while !self.buffer[..length].ends_with(b"\"hi\"}") {
            length += self.stream.read(&mut self.buffer[length..]).await.unwrap();
        }
    }
}

async fn latency(address: SocketAddr) -> f64 {
    let mut client = Client::connect(address).await;
    let mut samples = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        client.ask().await;
        samples.push(begun.elapsed());
    }
    percentile(&mut samples, 50)
}

async fn rate(address: SocketAddr) -> f64 {
    let begun = Instant::now();
    let clients = (0..CONNECTIONS).map(|_| {
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut count = 0_u64;
            while begun.elapsed() < Duration::from_secs(1) {
                client.ask().await;
                count += 1;
            }
            count
        })
    });
    let mut all = 0;
    for client in clients.collect::<Vec<_>>() {
        all += client.await.unwrap();
    }
    all as f64 / begun.elapsed().as_secs_f64()
}
