//! Strict agents over MCP and many posters over HTTP on one thread, for as long as
//! `AGENTBUS_SOAK_S` says: `cargo xtask soak chat 60`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use serde_json::{Value, json};

use super::client::{Host, quiet};
use super::mcp_agent::McpAgent;

const AGENTS: usize = 4;
const POSTERS: usize = 64;

/// How long the suite soaks.
const SECONDS: u64 = 3;

/// Between two posts of one poster.
const PAUSE: Duration = Duration::from_millis(200);

/// Posters rest in the second half of each second. Without that no strict post might ever be in
/// step: between a wait and its post somebody always comes first.
const SECOND_MS: u64 = 1_000;

/// A connection that is kept, and what was acknowledged over it.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    path: String,
    acknowledged: HashMap<String, i64>,
}

impl Client {
    async fn connect(host: &Host, thread: &str) -> Self {
        Self {
            sender: host.connect().await,
            path: format!("/api/threads/{thread}"),
            acknowledged: HashMap::new(),
        }
    }

    /// Sends a request; an answer of 500 or more ends the test.
    async fn send(&mut self, what: &str, body: &Value) -> (u16, Value) {
        let request = Request::post(format!("{}/{what}", self.path))
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        assert!(status < 500, "{what}: {status} {text}");
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    fn acknowledge(&mut self, message: &Value) {
        let id = message["id"].as_str().unwrap().to_owned();
        let seq = message["seq"].as_i64().unwrap();
        assert_eq!(self.acknowledged.insert(id, seq), None);
    }
}

async fn poster(host: Arc<Host>, thread: String, name: String, end: Instant) -> Client {
    let mut client = Client::connect(&host, &thread).await;
    while Instant::now() < end {
        let post = json!({ "author": name, "content": "whenever" });
        let (status, answer) = client.send("messages", &post).await;
        assert_eq!(status, 201, "{answer}");
        client.acknowledge(&answer);
        tokio::time::sleep(PAUSE).await;
        tokio::time::sleep(rest(end)).await;
    }
    client
}

/// How long a poster rests.
fn rest(end: Instant) -> Duration {
    let left = end.saturating_duration_since(Instant::now()).as_millis();
    let left = u64::try_from(left).unwrap() % SECOND_MS;
    Duration::from_millis(if left < SECOND_MS / 2 { left } else { 0 })
}

/// All messages of a thread, by page.
async fn stored(host: &Host, thread: &str) -> HashMap<String, i64> {
    let mut all = HashMap::new();
    let mut after = 0;
    loop {
        let page = format!("/api/threads/{thread}/messages?limit=1000&after_seq={after}");
        let page = host.get(&page).await.body;
        let page = page.as_array().unwrap();
        if page.is_empty() {
            return all;
        }
        for message in page {
            let seq = message["seq"].as_i64().unwrap();
            assert!(seq > after, "in their order");
            after = seq;
            all.insert(message["id"].as_str().unwrap().to_owned(), seq);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_agents_among_many_posters_lose_nothing() {
    let seconds = std::env::var("AGENTBUS_SOAK_S").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    let host = Arc::new(Host::start(quiet()).await);
    let thread = host.thread("soak").await;
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let start = |n| {
        let (host, thread) = (Arc::clone(&host), thread.clone());
        tokio::spawn(async move { McpAgent::join(&host, &thread, n).await.run(end).await })
    };
    let agents: Vec<_> = (0..AGENTS).map(start).collect();
    let start = |n| {
        let (host, thread) = (Arc::clone(&host), thread.clone());
        tokio::spawn(poster(host, thread, format!("poster {n}"), end))
    };
    let posters: Vec<_> = (0..POSTERS).map(start).collect();
    let (mut acknowledged, mut strict, mut refused) = (HashMap::new(), 0, 0);
    for agent in agents {
        let agent = agent.await.unwrap();
        strict += agent.acknowledged.len();
        refused += agent.refused;
        acknowledged.extend(agent.acknowledged);
    }
    for poster in posters {
        acknowledged.extend(poster.await.unwrap().acknowledged);
    }
    let posts = acknowledged.len();
    println!("{posts} posts, {strict} of them strict; {refused} strict ones were out of step");
    assert!(strict > 0, "agents get a word in");
    assert_eq!(stored(&host, &thread).await, acknowledged);
}
