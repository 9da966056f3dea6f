//! A client on lines, in the same process as the gateway.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::sync::Arc;

use agentbus::Bus;
use agentbus_chat::{Chat, ChatConfig};
use agentbus_mcp::{Gateway, McpConfig, Principal, Profile, Visitor};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf,
};

/// A client with a session.
pub(crate) struct Client {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
    next: u64,
    pub(crate) chat: Chat,
    /// What it was answered when it introduced itself.
    pub(crate) greeting: Value,
    /// What the bus said beside answers.
    pub(crate) heard: Vec<Value>,
    /// What to answer when asked for facts; none leaves the question open.
    pub(crate) fill: Option<Value>,
    directory: Arc<tempfile::TempDir>,
}

impl Client {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| {}, json!({})).await
    }

    /// A client with these capabilities of a gateway whose configuration is changed first.
    pub(crate) async fn start_with(
        change: impl FnOnce(&mut McpConfig, &Bus),
        capabilities: Value,
    ) -> Self {
        let bus = Bus::builder("test").connect().await.unwrap();
        Self::start_on(bus, change, capabilities).await
    }

    /// The same of a gateway to this bus.
    pub(crate) async fn start_on(
        bus: Bus,
        change: impl FnOnce(&mut McpConfig, &Bus),
        capabilities: Value,
    ) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let config = ChatConfig {
            rate_limit: 0,
            ..ChatConfig::default()
        };
        let chat = Chat::open(directory.path().join("chat.db"), config)
            .await
            .unwrap();
        let mut told = McpConfig::default();
        change(&mut told, &bus);
        let gateway = Gateway::new(told, chat.clone(), bus).unwrap();
        let visitor = Visitor::new(Principal::new("test"), Profile::Core);
        Self::of(gateway, visitor, chat, directory, capabilities).await
    }

    /// A second client of the same conversations, over a gateway of its own.
    pub(crate) async fn beside(&self, profile: Profile, language: Option<&str>) -> Self {
        let bus = Bus::builder("test").connect().await.unwrap();
        let gateway = Gateway::new(McpConfig::default(), self.chat.clone(), bus).unwrap();
        let mut visitor = Visitor::new(Principal::new("test"), profile);
        visitor.language = language.map(str::to_owned);
        let (chat, directory) = (self.chat.clone(), Arc::clone(&self.directory));
        Self::of(gateway, visitor, chat, directory, json!({})).await
    }

    async fn of(
        gateway: Gateway,
        visitor: Visitor,
        chat: Chat,
        directory: Arc<tempfile::TempDir>,
        capabilities: Value,
    ) -> Self {
        let (near, far) = tokio::io::duplex(1 << 20);
        tokio::spawn(async move { gateway.serve_lines(visitor, tokio::io::split(far)).await });
        let (reader, writer) = tokio::io::split(near);
        let mut client = Self {
            lines: BufReader::new(reader).lines(),
            writer,
            next: 0,
            chat,
            greeting: Value::Null,
            heard: Vec::new(),
            fill: None,
            directory,
        };
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities,
            "clientInfo": { "name": "test", "version": "1" } });
        client.greeting = client.request("initialize", hello).await;
        client
            .send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await;
        client
    }

    async fn send(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.writer.write_all(line.as_bytes()).await.unwrap();
    }

    /// The answer to a request.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.send(&request).await;
        loop {
            let line = self.lines.next_line().await.unwrap().unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == json!(id) && message.get("method").is_none() {
                return message;
            }
            if message["method"] == "elicitation/create"
                && let Some(answer) = self.fill.clone()
            {
                let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": answer });
                self.send(&answer).await;
            }
            self.heard.push(message);
        }
    }

    /// The result of a tool, with `isError` written out.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        let mut result = self.request("tools/call", params).await["result"].take();
        if result["isError"].is_null() {
            result["isError"] = json!(false);
        }
        result
    }

    /// The first block of a result, as the JSON that it is.
    pub(crate) fn text(result: &Value) -> Value {
        serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap()
    }
}
