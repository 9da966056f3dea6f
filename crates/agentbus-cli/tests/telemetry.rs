//! What operators see: spans at a collector, and the figures of `/metrics`.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/serving.rs"]
mod serving;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::json;

use serving::{Running, SERVE, Serving, agentbus};

const GUARD: Duration = Duration::from_secs(120);

/// A collector: takes OTLP over HTTP and keeps the spans.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::default();
        let kept = Arc::clone(&spans);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || while take(stream.as_ref().unwrap(), &kept) {});
            }
        });
        Self { url, spans }
    }

    /// Waits for a span of this name.
    fn span(&self, name: &str) -> Span {
        let begun = Instant::now();
        loop {
            let spans = self.spans.lock().unwrap();
            if let Some(span) = spans.iter().find(|span| span.name == name) {
                return span.clone();
            }
            let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
            assert!(begun.elapsed() < GUARD, "no span {name} among {names:?}");
            drop(spans);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Takes one request; false at the end of the connection.
fn take(stream: &TcpStream, kept: &Mutex<Vec<Span>>) -> bool {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    let scopes = request
        .resource_spans
        .into_iter()
        .flat_map(|it| it.scope_spans);
    kept.lock().unwrap().extend(scopes.flat_map(|it| it.spans));
    let answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
    let mut writer = stream;
    writer.write_all(answer).is_ok()
}

/// What operators see does not come from the log.
const QUIETLY: [&str; 2] = ["--log", "warn"];

/// The program with these arguments; what it says can be read.
fn piped(dir: &Path, args: &[&str]) -> Command {
    let mut command = agentbus(dir);
    command
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The attributes of a span, all of which are texts, without the id of its message.
fn attributes(span: &Span) -> (String, BTreeMap<&str, &str>) {
    fn text(value: Option<&Value>) -> &str {
        match value {
            Some(Value::StringValue(text)) => text,
            other => panic!("{other:?} is no text"),
        }
    }
    let mut told = BTreeMap::new();
    for attribute in &span.attributes {
        let value = attribute.value.as_ref().and_then(|it| it.value.as_ref());
        told.insert(attribute.key.as_str(), text(value));
    }
    let id = told.remove("messaging.message.id").unwrap();
    (id.to_owned(), told)
}

#[test]
fn spans_of_three_processes_are_one_trace_at_the_collector() {
    let collector = Collector::start();
    let dir = tempfile::tempdir().unwrap();
    let observed = |args: &[&str]| {
        let mut command = piped(dir.path(), args);
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
            .env("OTEL_BSP_SCHEDULE_DELAY", "50");
        command
    };
    let server = Serving::start(observed(&SERVE).args(QUIETLY));
    let mut handling = observed(&["handle", "shout", "--", "tr", "a-z", "A-Z"]);
    let mut handler = Running(handling.env("AGENTBUS_URL", &server.url).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(handler.0.stderr.as_mut().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let mut invoking = observed(&["invoke", "shout", "\"hello\""]);
    let invoked = invoking.env("AGENTBUS_URL", &server.url).output().unwrap();
    assert!(invoked.status.success(), "{invoked:?}");

    let call = collector.span("invoke_agent shout");
    let process = collector.span("process shout");
    assert_eq!(process.trace_id, call.trace_id);
    assert_eq!(process.parent_span_id, call.span_id);
    assert!(call.parent_span_id.is_empty(), "{call:?}");
    let (sent, told) = attributes(&call);
    let shared = [
        ("messaging.system", "agentbus"),
        ("messaging.destination.name", "acp.v1.invoke.shout"),
        ("messaging.message.body.size", "7"),
        ("gen_ai.agent.name", "shout"),
    ];
    let caller = [
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("gen_ai.operation.name", "invoke_agent"),
    ];
    let handler = [
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.consumer.group.name", "shout"),
    ];
    let expected: BTreeMap<_, _> = shared.into_iter().chain(caller).collect();
    assert_eq!(told, expected);
    let (handled, told) = attributes(&process);
    let expected: BTreeMap<_, _> = shared.into_iter().chain(handler).collect();
    assert_eq!(told, expected);
    assert_eq!(handled, sent);
    drop(server);
}

/// Posts a message of MCP; the whole answer.
fn post(server: &Serving, headers: &str, message: &str) -> String {
    let host = server.address();
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
         Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {}\r\n\r\n{message}",
        server.token(),
        message.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_call_of_an_mcp_tool_is_told_with_its_parent_and_its_link() {
    const THEIRS: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    let (named, carrier) = (0xb7ad_6b71_6920_3331_u64, 0x00f0_67aa_0ba9_02b7_u64);
    let collector = Collector::start();
    let dir = tempfile::tempdir().unwrap();
    let mut serving = piped(dir.path(), &SERVE);
    serving
        .args(QUIETLY)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
        .env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let server = Serving::start(&mut serving);
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" } } });
    let opened = post(&server, "", &hello.to_string()).to_ascii_lowercase();
    let session = opened.split_once("mcp-session-id: ").unwrap().1;
    let session = session.lines().next().unwrap();
    let traceparent = format!("00-{THEIRS:032x}-{named:016x}-01");
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "thread_list", "arguments": {}, "_meta": { "traceparent": traceparent } } });
    let headers =
        format!("Mcp-Session-Id: {session}\r\ntraceparent: 00-{THEIRS:032x}-{carrier:016x}-01\r\n");
    let answer = post(&server, &headers, &call.to_string());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let span = collector.span("tools/call thread_list");
    assert_eq!(span.kind, i32::from(SpanKind::Server));
    assert_eq!(span.trace_id, THEIRS.to_be_bytes());
    assert_eq!(span.parent_span_id, named.to_be_bytes());
    let links: Vec<_> = span.links.iter().map(|link| &link.span_id[..]).collect();
    assert_eq!(links, [&carrier.to_be_bytes()[..]]);
}

#[test]
fn a_collector_that_is_not_there_costs_a_command_nothing_but_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serving::start(piped(dir.path(), &SERVE).args(QUIETLY));
    let mut publish = piped(dir.path(), &["pub", "order.paid", "{}"]);
    publish
        .env("AGENTBUS_URL", &server.url)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    assert!(publish.status().unwrap().success());
    let mut broken = piped(dir.path(), &["pub", "order.paid", "{}"]);
    broken.env("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url");
    let said = broken.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(text.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{text}");
}

fn metrics(url: &str, dir: &Path) -> String {
    let token = std::fs::read_to_string(dir.join("data/token")).unwrap();
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        token.trim()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_dashboard_of_amb_finds_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serving::start(piped(dir.path(), &SERVE).args(QUIETLY));
    let mut subscriber = piped(dir.path(), &["sub", "order.>", "--count", "2"]);
    let mut subscriber = Running(subscriber.env("AGENTBUS_URL", &server.url).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(subscriber.0.stderr.as_mut().unwrap())
        .read_line(&mut ready)
        .unwrap();
    for args in [
        ["pub", "order.paid", "{}", "--priority", "critical"],
        ["pub", "order.paid", "{}", "--priority", "normal"],
    ] {
        let mut publish = piped(dir.path(), &args);
        assert!(
            publish
                .env("AGENTBUS_URL", &server.url)
                .status()
                .unwrap()
                .success()
        );
    }
    assert!(subscriber.0.wait().unwrap().success());
    let text = metrics(&server.url, dir.path());
    for line in [
        "amb_messages_published_total{topic=\"order.paid\",priority=\"critical\"} 1",
        "amb_messages_published_total{topic=\"order.paid\",priority=\"normal\"} 1",
        "amb_messages_delivered_total{topic=\"order.paid\"} 2",
        "amb_publish_duration_seconds_bucket{le=\"+Inf\"} 2",
        "amb_delivery_duration_seconds_count 2",
        "amb_broker_connected 1",
        "amb_persistence_enabled 0",
        "amb_wal_messages_pending 0",
        "amb_dlq_messages_total 0",
        "amb_delivery_failures_total 0",
        "amb_backpressure_activated_total 0",
    ] {
        assert!(text.lines().any(|it| it == line), "no `{line}` in:\n{text}");
    }
}

#[test]
fn a_payload_without_its_form_is_refused_over_the_wire() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("order.json"), r#"{"required":["n"]}"#).unwrap();
    let config = "[[schemas]]\nevent = \"order.paid\"\nfile = \"order.json\"\n";
    std::fs::write(dir.path().join("bus.toml"), config).unwrap();
    let mut serving = piped(dir.path(), &SERVE);
    serving.args(QUIETLY).args(["--config", "bus.toml"]);
    let server = Serving::start(&mut serving);
    let mut publish = piped(dir.path(), &["pub", "order.paid", "{}"]);
    let said = publish.env("AGENTBUS_URL", &server.url).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success());
    assert!(
        text.contains("the payload of order.paid does not match its schema"),
        "{text}"
    );
    let mut right = piped(dir.path(), &["pub", "order.paid", "{\"n\":1}"]);
    assert!(
        right
            .env("AGENTBUS_URL", &server.url)
            .status()
            .unwrap()
            .success()
    );
}
