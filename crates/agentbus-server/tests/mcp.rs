//! MCP over HTTP, where it meets the host: who a session belongs to, and what bad requests get.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::sync::Arc;

use agentbus::Bus;
use agentbus::contract::Collected;
use agentbus::protocol::TraceParent;
use agentbus::telemetry::Span;
use agentbus_server::{RunningServer, Server, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Host {
    server: RunningServer,
    token: String,
    _directory: tempfile::TempDir,
}

/// A status, the headers, and the body as text.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines
            .into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    }
}

impl Host {
    async fn start() -> Self {
        Self::start_on(Bus::builder("test").connect().await.unwrap()).await
    }

    async fn start_on(bus: Bus) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(directory.path().join("data"));
        config.listen = "127.0.0.1:0".parse().unwrap();
        let server = Server::start(config, bus).await.unwrap();
        let token = std::fs::read_to_string(server.data_dir().token_path()).unwrap();
        Self {
            server,
            token: format!("Authorization: Bearer {}\r\n", token.trim()),
            _directory: directory,
        }
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let address = self.server.local_addr();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\
             Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Opens a session; its header.
    async fn session(&self, who: &str) -> String {
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" } });
        let opened = self
            .ask("POST", "/mcp", who, &request("initialize", &params))
            .await;
        assert_eq!(opened.status, 200, "{}", opened.body);
        format!(
            "Mcp-Session-Id: {}\r\n",
            opened.header("mcp-session-id").unwrap()
        )
    }

    /// Opens a session of the older transport: its stream, and where to post.
    async fn pipe(&self) -> (TcpStream, String) {
        let address = self.server.local_addr();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /mcp/sse HTTP/1.1\r\nHost: {address}\r\n{}Accept: text/event-stream\r\n\r\n",
            self.token
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut heard = String::new();
        loop {
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "{heard}");
            heard.push_str(&String::from_utf8_lossy(&bytes[..read]));
            let told = heard.split_once("data: ").map(|(_, told)| told);
            if let Some((path, _)) = told.and_then(|told| told.split_once('\n')) {
                return (stream, path.trim().to_owned());
            }
        }
    }

    /// The cookie of a browser that a link has signed in.
    async fn cookie(&self) -> String {
        let link = self.server.console_link();
        let path = link.strip_prefix(&self.server.url()).unwrap();
        let opened = self.ask("GET", path, "", "").await;
        let cookie = opened.header("set-cookie").unwrap();
        format!("Cookie: {}\r\n", cookie.split(';').next().unwrap())
    }
}

fn request(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}

fn list() -> String {
    request("tools/list", &json!({}))
}

#[tokio::test]
async fn a_session_is_there_only_for_the_principal_who_opened_it() {
    let host = Host::start().await;
    let session = host.session(&host.token).await;
    let browser = host.cookie().await;
    let as_owner = format!("{}{session}", host.token);
    let as_browser = format!("{browser}{session}");
    let own = host.ask("POST", "/mcp", &as_owner, &list()).await;
    assert_eq!(own.status, 200, "{}", own.body);
    for method in ["POST", "GET", "DELETE"] {
        let foreign = host.ask(method, "/mcp", &as_browser, &list()).await;
        assert_eq!(foreign.status, 404, "{method}: {}", foreign.body);
    }
    let ended = host.ask("DELETE", "/mcp", &as_owner, "").await;
    assert!((200..300).contains(&ended.status), "{}", ended.body);
    assert_eq!(
        host.ask("POST", "/mcp", &as_owner, &list()).await.status,
        404
    );
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_profile_decides_what_is_listed() {
    let host = Host::start().await;
    let session = host.session(&host.token).await;
    let who = format!("{}{session}", host.token);
    let count = async |path: &str| {
        let answer = host.ask("POST", path, &who, &list()).await;
        answer.body.matches("\"inputSchema\"").count()
    };
    assert_eq!(count("/mcp").await, 12);
    assert!(count("/mcp?profile=full").await > 30);
    let unknown = host.ask("POST", "/mcp?profile=odd", &who, &list()).await;
    assert_eq!(unknown.status, 400);
    assert!(
        unknown.body.contains("there is no profile `odd`"),
        "{}",
        unknown.body
    );
    host.server.shutdown().await;
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let host = Host::start().await;
    let who = host.token.clone();
    let check = async |method: &str, path: &str, headers: &str, body: &str, status: u16| {
        let answer = host.ask(method, path, headers, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(!answer.body.is_empty(), "{method} {path}");
    };
    check("POST", "/mcp", &who, "{", 400).await;
    check("POST", "/mcp", &who, &list(), 400).await;
    let gone = format!("{who}Mcp-Session-Id: gone\r\n");
    check("POST", "/mcp", &gone, &list(), 404).await;
    check("POST", "/mcp/messages/", &who, "{", 400).await;
    check("POST", "/mcp/messages/", "", &list(), 401).await;
    check("POST", "/mcp/messages/", &who, &list(), 200).await;
    check("POST", "/mcp/messages/?profile=odd", &who, &list(), 400).await;
    check("POST", "/mcp/messages/?session_id=x", &who, &list(), 400).await;
    let unknown = format!("/mcp/messages?session_id={}", "0".repeat(32));
    check("POST", &unknown, &who, &list(), 404).await;
    check("POST", "/mcp", "", &list(), 401).await;
    let foreign = format!("{who}Origin: http://evil.example\r\n");
    check("POST", "/mcp", &foreign, &list(), 403).await;
    host.server.shutdown().await;
}

const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
const META: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A host whose bus tells its spans.
async fn observed() -> (Host, Arc<Collected>) {
    let spans = Arc::new(Collected::default());
    let bus = Bus::builder("test").spans(Arc::<Collected>::clone(&spans));
    (Host::start_on(bus.connect().await.unwrap()).await, spans)
}

/// A call of a tool without arguments.
fn tool(name: &str, meta: &Value) -> String {
    request(
        "tools/call",
        &json!({ "name": name, "arguments": {}, "_meta": meta }),
    )
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|(name, _)| *name == key);
    found.map(|(_, value)| value.as_str())
}

/// Checks that a span came over HTTP in a session, under the header's span.
fn check_carried(span: &Span, session: Option<&str>) {
    assert_eq!(span.parent, TraceParent::parse(HEADER));
    assert_eq!(attribute(span, "network.transport"), Some("tcp"));
    assert_eq!(attribute(span, "mcp.session.id"), session);
}

#[tokio::test]
async fn a_span_belongs_to_the_header_unless_the_message_names_another() {
    let (host, spans) = observed().await;
    let session = host.session(&host.token).await;
    let who = format!("{}{session}traceparent: {HEADER}\r\n", host.token);
    let call = tool("bus_get_config", &json!({}));
    assert_eq!(host.ask("POST", "/mcp", &who, &call).await.status, 200);
    let span = spans.soon("tools/call bus_get_config").await;
    let id = session.trim().split_once(": ").unwrap().1;
    check_carried(&span, Some(id));
    assert_eq!(span.link, None);
    let call = tool("thread_list", &json!({ "traceparent": META }));
    assert_eq!(host.ask("POST", "/mcp", &who, &call).await.status, 200);
    let span = spans.soon("tools/call thread_list").await;
    assert_eq!(span.parent, TraceParent::parse(META));
    assert_eq!(span.link, TraceParent::parse(HEADER));
    host.server.shutdown().await;
}

#[tokio::test]
async fn the_older_transport_and_plain_requests_have_spans_too() {
    let (host, spans) = observed().await;
    let (stream, path) = host.pipe().await;
    let hello = json!({ "protocolVersion": "2024-11-05", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" } });
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let who = format!("{}traceparent: {HEADER}\r\n", host.token);
    for message in [
        request("initialize", &hello),
        ready.to_string(),
        tool("thread_list", &json!({})),
    ] {
        let taken = host.ask("POST", &path, &who, &message).await;
        assert_eq!(taken.status, 202, "{}", taken.body);
    }
    let span = spans.soon("tools/call thread_list").await;
    let id = path.split_once("session_id=").unwrap().1;
    check_carried(&span, Some(id));
    let alone = tool("bus_get_config", &json!({}));
    let answer = host.ask("POST", "/mcp/messages/", &who, &alone).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    check_carried(&spans.soon("tools/call bus_get_config").await, None);
    // What a client makes up is told, and names no span.
    let unknown = tool("nope", &json!({}));
    host.ask("POST", "/mcp/messages/", &who, &unknown).await;
    let span = spans.soon("tools/call").await;
    check_carried(&span, None);
    assert_eq!(attribute(&span, "gen_ai.tool.name"), Some("nope"));
    let code = attribute(&span, "rpc.response.status_code");
    assert_eq!(code, Some("-32602"));
    assert_eq!(span.failure.unwrap().kind, "-32602");
    drop(stream);
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_plain_request_for_what_there_is_not_has_a_span_too() {
    let (host, spans) = observed().await;
    let who = format!("{}traceparent: {HEADER}\r\n", host.token);
    for (method, field, key) in [
        ("prompts/get", "name", "gen_ai.prompt.name"),
        ("resources/read", "uri", "mcp.resource.uri"),
    ] {
        let asked = request(method, &json!({ field: "nope" }));
        let answer = host.ask("POST", "/mcp/messages/", &who, &asked).await;
        assert!(
            (400..500).contains(&answer.status),
            "{method}: {}",
            answer.body
        );
        let span = spans.soon(method).await;
        check_carried(&span, None);
        assert_eq!(attribute(&span, key), Some("nope"));
        let code = attribute(&span, "rpc.response.status_code");
        assert_eq!(code, Some("-32602"));
        assert_eq!(span.failure.unwrap().kind, "-32602");
    }
    host.server.shutdown().await;
}
