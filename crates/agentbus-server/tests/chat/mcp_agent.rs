//! An agent that takes part in a thread through MCP, strictly.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{HeaderMap, Request};
use serde_json::{Value, json};

use super::client::Host;

/// One MCP session over Streamable HTTP, and what was acknowledged in it.
pub(crate) struct McpAgent {
    sender: SendRequest<Full<Bytes>>,
    session: String,
    calls: u64,
    thread: String,
    id: String,
    /// What the next strict post needs: `current_seq` and `reply_token`.
    sync: Value,
    /// Messages by id, with their numbers.
    pub(crate) acknowledged: HashMap<String, i64>,
    /// How often it was out of step.
    pub(crate) refused: usize,
}

impl McpAgent {
    /// Opens a session and joins a thread.
    pub(crate) async fn join(host: &Host, thread: &str, n: usize) -> Self {
        let mut agent = Self {
            sender: host.connect().await,
            session: String::new(),
            calls: 0,
            thread: thread.to_owned(),
            id: String::new(),
            sync: Value::Null,
            acknowledged: HashMap::new(),
            refused: 0,
        };
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "soak", "version": "1" } });
        let (headers, _) = agent.send("initialize", &hello).await;
        agent.session = headers["mcp-session-id"].to_str().unwrap().to_owned();
        let me = json!({ "thread_id": thread, "ide": "IDE", "model": format!("m{n}") });
        let (joined, failed) = agent.call("bus_connect", &me).await;
        assert!(!failed, "{joined}");
        agent.id = joined["agent"]["agent_id"].as_str().unwrap().to_owned();
        agent.sync = joined;
        agent
    }

    /// Waits, and posts strictly what it has seen.
    pub(crate) async fn run(mut self, end: Instant) -> Self {
        while Instant::now() < end {
            let wait = json!({ "thread_id": self.thread, "after_seq": self.sync["current_seq"],
                "timeout_ms": 50, "return_format": "json" });
            let (news, failed) = self.call("msg_wait", &wait).await;
            assert!(!failed, "{news}");
            self.sync = news;
            let post = json!({ "thread_id": self.thread, "author": self.id, "content": "in step",
                "expected_last_seq": self.sync["current_seq"],
                "reply_token": self.sync["reply_token"] });
            let (answer, _) = self.call("msg_post", &post).await;
            if let (Some(id), Some(seq)) = (answer["msg_id"].as_str(), answer["seq"].as_i64()) {
                assert_eq!(self.acknowledged.insert(id.to_owned(), seq), None);
            } else {
                let text = answer.to_string();
                assert!(text.contains("SEQ_MISMATCH"), "{text}");
                self.refused += 1;
            }
        }
        self
    }

    /// Calls a tool: its result, and whether it is an error.
    async fn call(&mut self, tool: &str, arguments: &Value) -> (Value, bool) {
        let params = json!({ "name": tool, "arguments": arguments });
        let (_, answer) = self.send("tools/call", &params).await;
        let result = &answer["result"];
        let failed = result["isError"].as_bool().unwrap_or(false);
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        let data = match &result["structuredContent"] {
            Value::Null => serde_json::from_str(text).unwrap_or_else(|_| answer.clone()),
            data => data.clone(),
        };
        (data, failed)
    }

    async fn send(&mut self, method: &str, params: &Value) -> (HeaderMap, Value) {
        self.calls += 1;
        let body = json!({ "jsonrpc": "2.0", "id": self.calls, "method": method,
            "params": params });
        let mut request = Request::post("/mcp")
            .header("host", "localhost")
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json");
        if !self.session.is_empty() {
            request = request
                .header("mcp-session-id", &self.session)
                .header("mcp-protocol-version", "2025-11-25");
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        assert!(head.status.is_success(), "{method}: {} {text}", head.status);
        (head.headers, answer_in(&text))
    }
}

/// The response in a body that is JSON, or a stream of events of which the last is the response.
pub(crate) fn answer_in(body: &str) -> Value {
    let last = body.lines().filter_map(|line| line.strip_prefix("data:"));
    let text = last.map(str::trim).rfind(|data| !data.is_empty());
    serde_json::from_str(text.unwrap_or(body)).unwrap()
}
