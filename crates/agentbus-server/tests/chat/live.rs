//! Posting, waiting and following at the same time.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::client::{Host, quiet};
use super::mcp_session::McpSession;

/// Longest time that any step may take before the test has failed.
const GUARD: Duration = Duration::from_secs(60);

/// Follows events, as a browser does.
pub(super) struct Events {
    body: Incoming,
    read: String,
}

impl Events {
    pub(super) async fn open(host: &Host, query: &str, last: Option<&str>) -> Self {
        let mut request = Request::builder()
            .uri(format!("/events{query}"))
            .header("host", "localhost");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        // The sender may go: the connection's task holds what is being read.
        let response = Box::leak(Box::new(host.connect().await))
            .send_request(request)
            .await
            .unwrap();
        assert_eq!(
            response.headers()["content-type"],
            "text/event-stream; charset=utf-8"
        );
        let mut events = Self {
            body: response.into_body(),
            read: String::new(),
        };
        assert_eq!(events.frame().await, ": hb");
        events
    }

    async fn frame(&mut self) -> String {
        loop {
            if let Some((frame, rest)) = self.read.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.read = rest;
                return frame;
            }
            let next = tokio::time::timeout(GUARD, self.body.frame())
                .await
                .unwrap();
            let data = next.unwrap().unwrap().into_data().unwrap();
            self.read.push_str(&String::from_utf8_lossy(&data));
        }
    }

    /// The next event: its number and its data.
    pub(super) async fn next(&mut self) -> (String, Value) {
        loop {
            let frame = self.frame().await;
            let Some(rest) = frame.strip_prefix("id: ") else {
                continue;
            };
            let (id, rest) = rest.split_once("\nevent: message\ndata: ").unwrap();
            return (id.to_owned(), serde_json::from_str(rest).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_posters_get_no_server_error() {
    let host = std::sync::Arc::new(Host::start(quiet()).await);
    let thread = host.thread("busy").await;
    let path = format!("/api/threads/{thread}/messages");
    let posters = (0..64).map(|poster| {
        let (host, path) = (std::sync::Arc::clone(&host), path.clone());
        tokio::spawn(async move {
            let mut seqs = Vec::new();
            for n in 0..4 {
                let body = json!({ "author": format!("p{poster}"), "content": format!("{n}") });
                let answer = host.json("POST", &path, body).await;
                assert_eq!(answer.status, 201, "{}", answer.text);
                seqs.push(answer.body["seq"].as_i64().unwrap());
            }
            seqs
        })
    });
    let mut all = HashSet::new();
    for poster in posters.collect::<Vec<_>>() {
        all.extend(poster.await.unwrap());
    }
    assert_eq!(all.len(), 64 * 4);
    let listed = host.get(&format!("{path}?limit=1000")).await.body;
    let seqs: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["seq"].as_i64().unwrap())
        .collect();
    assert!(seqs.is_sorted() && seqs.len() == 64 * 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_resumes_where_it_was() {
    let host = Host::start(quiet()).await;
    let thread = host.thread("t").await;
    let path = format!("/api/threads/{thread}/messages");
    let mut events = Events::open(&host, "", None).await;
    host.json("POST", &path, json!({ "content": "one" })).await;
    let (id, event) = events.next().await;
    assert_eq!(
        (event["type"].as_str(), event["payload"]["content"].as_str()),
        (Some("msg.new"), Some("one"))
    );
    drop(events);
    host.json("POST", &path, json!({ "content": "two" })).await;
    let mut again = Events::open(&host, "", Some(&id)).await;
    assert_eq!(again.next().await.1["payload"]["content"], "two");
    let mut all = Events::open(&host, "?replay=1", None).await;
    assert_eq!(all.next().await.1["type"], "agent.online");
    let mut own = Events::open(&host, &format!("?after_id=0&thread_id={thread}"), None).await;
    assert_eq!(own.next().await.1["type"], "thread.new");
    host.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_ends_a_wait_and_reaches_the_bus() {
    let host = std::sync::Arc::new(Host::start(quiet()).await);
    let thread = host.thread("t").await;
    let (id, token) = host.agent().await;
    let mut heard = host.bus.subscribe("chat.>").await.unwrap();
    let sync = host
        .json(
            "POST",
            &format!("/api/threads/{thread}/sync-context"),
            json!({ "agent_id": id }),
        )
        .await;
    assert_eq!(sync.body["current_seq"], 0);
    let waiting = {
        let (host, thread) = (std::sync::Arc::clone(&host), thread.clone());
        let body = json!({ "after_seq": 0, "timeout_ms": 60_000, "agent_id": id, "token": token });
        tokio::spawn(async move {
            host.json("POST", &format!("/api/threads/{thread}/wait"), body)
                .await
        })
    };
    let post = json!({ "content": "wake up", "metadata": { "k": 1 } });
    let posted = host
        .json("POST", &format!("/api/threads/{thread}/messages"), post)
        .await;
    assert_eq!(posted.body["metadata"]["k"], 1);
    let waited = tokio::time::timeout(GUARD, waiting).await.unwrap().unwrap();
    assert_eq!(
        waited.body["messages"][0]["content"], "wake up",
        "{}",
        waited.text
    );
    assert_eq!(waited.body["current_seq"], 1);

    let strict = json!({ "author": id, "content": "mine", "expected_last_seq": 1,
        "reply_token": waited.body["reply_token"] });
    let headers = [("x-agent-token", token.as_str())];
    let path = format!("/api/threads/{thread}/messages?metadata=string");
    let mine = host.json_as("POST", &path, &headers, strict).await;
    assert_eq!(mine.status, 201, "{}", mine.text);
    assert!(
        mine.body["reply_token"].is_string(),
        "the next token comes with it"
    );
    let listed = host.get(&path).await.body;
    assert_eq!(
        listed[0]["metadata"], "{\"k\":1}",
        "text, where it is asked for"
    );
    loop {
        let delivery = tokio::time::timeout(GUARD, heard.next())
            .await
            .unwrap()
            .unwrap();
        let kind = delivery.envelope().event_type.clone();
        delivery.ack().await.unwrap();
        if kind.as_str() == "chat.msg.new" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_writes_once() {
    let host = Host::start(quiet()).await;
    let thread = host.thread("t").await;
    let path = format!("/api/threads/{thread}/messages");
    let key = [("idempotency-key", "k")];
    let post = |text: &str| host.json_as("POST", &path, &key, json!({ "content": text }));
    let (first, second) = (post("once").await, post("once").await);
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert_eq!(post("another").await.status, 422);
    let new = || {
        host.json_as(
            "POST",
            "/api/agents/register",
            &key,
            json!({ "ide": "a", "model": "b" }),
        )
    };
    assert_eq!(new().await.body, new().await.body, "the token as well");
    assert_eq!(host.get(&path).await.body.as_array().unwrap().len(), 1);
    host.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_kept_and_uploads_shown() {
    let host = Host::start(quiet()).await;
    let saved = host
        .json("PUT", "/api/settings", json!({ "ENABLE_PRIORITY": true }))
        .await;
    assert_eq!(saved.status, 200, "{}", saved.text);
    let mut image =
        b"--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n"
            .to_vec();
    image.extend_from_slice(b"\x89PNG\r\n\x1a\n0000\r\n--X--\r\n");
    let kind = [("content-type", "multipart/form-data; boundary=X")];
    let uploaded = host.send("POST", "/api/upload/image", &kind, image).await;
    let url = uploaded.body["url"].as_str().unwrap();
    let shown = host.get(url).await;
    assert_eq!(
        (shown.status, &shown.headers["content-type"]),
        (200, &"image/png".parse().unwrap())
    );
    assert_eq!(shown.headers["x-content-type-options"], "nosniff");
    host.server.shutdown().await;
}

/// Sessions of MCP as they are counted: streams of the older transport, and all.
async fn counted(host: &Host) -> (u64, u64) {
    let status = host.get("/api/debug/sse-status").await.body;
    let count = |name: &str| status[name].as_u64().unwrap();
    (
        count("live_mcp_sse_stream_count"),
        count("active_session_count"),
    )
}

#[tokio::test]
async fn diagnostics_find_mcp_where_it_is_served() {
    let host = Host::start(quiet()).await;
    assert_eq!(counted(&host).await, (0, 0));
    let session = McpSession::open(&host, "none").await;
    assert_eq!(counted(&host).await, (0, 1));
    let mut sender = host.connect().await;
    let pipe = Request::builder()
        .uri("/mcp/sse")
        .header("host", "localhost")
        .header("accept", "text/event-stream");
    let pipe = pipe.body(Full::new(Bytes::new())).unwrap();
    let pipe = sender.send_request(pipe).await.unwrap();
    assert_eq!(pipe.status(), 200);
    assert_eq!(counted(&host).await, (1, 2));
    session.end().await;
    assert_eq!(counted(&host).await, (1, 1));

    let found = host.get("/api/system/diagnostics").await;
    assert_eq!(found.body["mcp_ok"], true, "{}", found.text);
    let count = |name: &str| found.body[name].as_u64().unwrap();
    assert!(count("mcp_tools_count") > 30, "{}", found.text);
    assert!(count("mcp_prompts_count") > 0, "{}", found.text);
    assert!(count("mcp_resources_count") > 0, "{}", found.text);
    drop(pipe);
    host.server.shutdown().await;
}
