//! A session of MCP, one connection for each call.

use serde_json::{Value, json};

use super::client::Host;
use super::mcp_agent::answer_in;

pub(crate) struct McpSession<'a> {
    host: &'a Host,
    authorization: String,
    session: String,
}

impl<'a> McpSession<'a> {
    /// Opens a session with this token.
    pub(crate) async fn open(host: &'a Host, token: &str) -> Self {
        let mut opened = Self {
            host,
            authorization: format!("Bearer {token}"),
            session: String::new(),
        };
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" } });
        let (session, _) = opened.send("initialize", hello).await;
        opened.session = session.unwrap();
        opened
    }

    /// The result of a tool.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        let (_, answer) = self.send("tools/call", params).await;
        answer["result"].clone()
    }

    /// Ends the session.
    pub(crate) async fn end(self) {
        let headers = [
            ("accept", "application/json, text/event-stream"),
            ("authorization", self.authorization.as_str()),
            ("mcp-session-id", self.session.as_str()),
            ("mcp-protocol-version", "2025-11-25"),
        ];
        let ended = self.host.send("DELETE", "/mcp", &headers, "").await;
        assert!((200..300).contains(&ended.status), "{}", ended.text);
    }

    async fn send(&self, method: &str, params: Value) -> (Option<String>, Value) {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut headers = vec![
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("authorization", &self.authorization),
        ];
        if !self.session.is_empty() {
            headers.push(("mcp-session-id", &self.session));
            headers.push(("mcp-protocol-version", "2025-11-25"));
        }
        let answer = self
            .host
            .send("POST", "/mcp", &headers, body.to_string())
            .await;
        assert_eq!(answer.status, 200, "{method}: {}", answer.text);
        let session = answer.headers.get("mcp-session-id");
        let session = session.map(|id| id.to_str().unwrap().to_owned());
        (session, answer_in(&answer.text))
    }
}
