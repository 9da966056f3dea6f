//! How soon others hear of a post.
//!
//! The baseline of a wake-up is one small request to the same server; that of a fan-out is as many
//! bytes written to as many sockets, with nothing in between.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use agentbus_server::RunningServer;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::client::Client;
use super::table::latency;

const ROUNDS: usize = 200;

/// Between two posts, so that whoever waits sleeps: a rest, and not what is measured.
const REST: Duration = Duration::from_millis(10);

/// Bytes of the event of a short post.
const EVENT_BYTES: usize = 420;

pub(crate) async fn all(server: &RunningServer) {
    let address = server.local_addr();
    wake_up(address).await;
    fan_out(address, 50, ROUNDS, "≤ 3 / 15 ms").await;
    fan_out(address, 1_000, 20, "all hear").await;
}

/// From the answer to the poster, which is after the commit, to the answer to the waiter.
async fn wake_up(address: SocketAddr) {
    let mut poster = Client::connect(address).await;
    let thread = poster.thread("wake-up").await;
    let (woken, mut wakes) = mpsc::channel(1);
    let path = format!("/api/threads/{thread}/wait");
    tokio::spawn(async move {
        let mut waiter = Client::connect(address).await;
        let mut after = 0;
        for _ in 0..ROUNDS {
            let body = json!({ "after_seq": after, "timeout_ms": 60_000 });
            let (_, waited) = waiter.send("POST", &path, "", &body).await;
            after = waited["current_seq"].as_i64().unwrap();
            woken.send(Instant::now()).await.unwrap();
        }
    });
    let (mut waits, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        tokio::time::sleep(REST).await;
        let begin = Instant::now();
        poster.send("GET", "/healthz", "", &Value::Null).await;
        requests.push(begin.elapsed());
        assert_eq!(poster.post(&thread, "wake up").await, 201);
        let stored = Instant::now();
        let woken = wakes.recv().await.unwrap();
        waits.push(woken.saturating_duration_since(stored));
    }
    let baseline = ("an empty request", requests.as_mut_slice());
    let what = "`wait` over HTTP, from the commit to the answer";
    latency(what, [50, 100], &mut waits, baseline, "≤ 2 / 20 ms");
}

async fn fan_out(address: SocketAddr, readers: usize, rounds: usize, goal: &str) {
    let mut poster = Client::connect(address).await;
    let thread = poster.thread(&format!("fan-out to {readers}")).await;
    let (heard, mut hears) = mpsc::channel(readers);
    for _ in 0..readers {
        let mut body = Client::connect(address).await.events().await;
        // The first bytes say that from here on nothing is missed.
        body.frame().await.unwrap().unwrap();
        let heard = heard.clone();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                let data = frame.into_data().unwrap_or_default();
                if data.windows(7).any(|window| window == b"msg.new") {
                    let _ = heard.send(Instant::now()).await;
                }
            }
        });
    }
    let mut times = Vec::new();
    for _ in 0..rounds {
        tokio::time::sleep(REST).await;
        // Readers hear of the commit before the poster does, so the clock starts with the request.
        let sent = Instant::now();
        assert_eq!(poster.post(&thread, "to all").await, 201);
        for _ in 0..readers {
            let heard = hears.recv().await.unwrap();
            times.push(heard.saturating_duration_since(sent));
        }
    }
    let mut raw = raw_fan_out(readers, rounds).await;
    let what = format!("events to {readers} readers, from the request to the last byte");
    let baseline = ("bare sockets", raw.as_mut_slice());
    latency(&what, [50, 99], &mut times, baseline, goal);
}

async fn raw_fan_out(readers: usize, rounds: usize) -> Vec<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, mut hears) = mpsc::channel(readers);
    let mut ends = Vec::new();
    for _ in 0..readers {
        let mut reader = TcpStream::connect(address).await.unwrap();
        let (end, _) = listener.accept().await.unwrap();
        end.set_nodelay(true).unwrap();
        ends.push(end);
        let heard = heard.clone();
        tokio::spawn(async move {
            let mut event = [0; EVENT_BYTES];
            while reader.read_exact(&mut event).await.is_ok() {
                let _ = heard.send(Instant::now()).await;
            }
        });
    }
    let mut times = Vec::new();
    for _ in 0..rounds {
        tokio::time::sleep(REST).await;
        let begin = Instant::now();
        for end in &mut ends {
            end.write_all(&[b'x'; EVENT_BYTES]).await.unwrap();
        }
        for _ in 0..readers {
            times.push(hears.recv().await.unwrap().saturating_duration_since(begin));
        }
    }
    times
}
