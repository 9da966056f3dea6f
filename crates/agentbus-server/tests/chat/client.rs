//! A small HTTP client, and a host to talk to.

use agentbus::Bus;
use agentbus_chat::ChatConfig;
use agentbus_server::{AuthMode, RunningServer, Server, ServerConfig};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

pub(crate) struct Host {
    pub(crate) server: RunningServer,
    pub(crate) bus: Bus,
    _directory: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

pub(crate) fn quiet() -> ChatConfig {
    ChatConfig {
        rate_limit: 0,
        ..ChatConfig::default()
    }
}

impl Host {
    pub(crate) async fn start(chat: ChatConfig) -> Self {
        Self::start_with(|config, _| config.chat = chat).await
    }

    /// A host whose configuration is changed first.
    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerConfig, &Bus)) -> Self {
        Self::over(Bus::builder("test").connect().await.unwrap(), change).await
    }

    /// The same over a bus of the test's own.
    pub(crate) async fn over(bus: Bus, change: impl FnOnce(&mut ServerConfig, &Bus)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(directory.path().join("data"));
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.auth = AuthMode::Off;
        change(&mut config, &bus);
        Self {
            server: Server::start(config, bus.clone()).await.unwrap(),
            bus,
            _directory: directory,
        }
    }

    pub(crate) async fn connect(&self) -> http1::SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.server.local_addr()).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Sends a request with its own connection.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        let own_host = headers
            .iter()
            .all(|(name, _)| !name.eq_ignore_ascii_case("host"));
        if own_host {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = self.connect().await.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        self.json_as(method, path, &[], body).await
    }

    pub(crate) async fn json_as(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send(method, path, &all, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// Registers an agent: its id and its token.
    pub(crate) async fn agent(&self) -> (String, String) {
        let new = json!({ "ide": "IDE", "model": "m" });
        let made = self.json("POST", "/api/agents/register", new).await.body;
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("agent_id"), text("token"))
    }

    /// Creates a thread: its id.
    pub(crate) async fn thread(&self, topic: &str) -> String {
        let (id, token) = self.agent().await;
        let new = json!({ "topic": topic, "creator_agent_id": id });
        let headers = [("x-agent-token", token.as_str())];
        let made = self.json_as("POST", "/api/threads", &headers, new).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.body["id"].as_str().unwrap().to_owned()
    }
}
