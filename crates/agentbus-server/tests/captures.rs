//! The HTTP exchanges captured from another implementation's adapter, replayed as raw bytes: those
//! written by hand, and those of its own client in TypeScript.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on, or is skipped, should say so"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentbus::{Bus, Error, ErrorCode, ErrorPayload, Request};
use agentbus_server::{AuthMode, RunningServer, Server, ServerConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Deserialize)]
struct Capture {
    exchanges: Vec<Exchange>,
}

#[derive(Deserialize)]
struct Exchange {
    name: String,
    request: String,
    response: String,
}

/// What the client did, by name.
#[derive(Deserialize)]
struct Client {
    calls: BTreeMap<String, Call>,
}

#[derive(Deserialize)]
struct Call {
    http: Vec<Raw>,
}

#[derive(Deserialize)]
struct Raw {
    request: String,
    response: String,
}

/// Reads a file of captures; `None`, and says so, where they are not at hand.
fn captured<T: DeserializeOwned>(file: &str) -> Option<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/golden/openagentio")
        .join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no captures at {}", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// Where ours answers otherwise on purpose, and how.
fn deliberately_different(name: &str) -> Option<(u16, Option<Value>)> {
    let error = |code: &str, retryable: bool| Some(json!({"code": code, "retryable": retryable}));
    Some(match name {
        // A slow handler runs into the timeout instead of past it.
        "invoke-timeout-504" => (504, error("AGENT_TIMEOUT", true)),
        // Nobody there is known at once.
        "invoke-no-such-target" | "stream-no-such-target" => (404, error("NO_HANDLER", false)),
        // The one reply of a streaming target is its result, not its first frame.
        "invoke-on-stream-target" => (200, Some(json!({"result": {"n": 2}}))),
        // Every refusal is JSON.
        "unknown-route" | "empty-target" => (404, error("INVALID_REQUEST", false)),
        "get-not-allowed" => (405, error("INVALID_REQUEST", false)),
        // A slash in a name is part of the name, which is no name then.
        "invoke-target-with-slash" => (400, error("INVALID_REQUEST", false)),
        // A standard `traceparent` counts too, but the X- header goes first as captured.
        _ => return None,
    })
}

async fn serve(dir: &Path) -> RunningServer {
    let bus = Bus::builder("gw").connect().await.unwrap();
    handlers(&bus).await.unwrap();
    let transport = Arc::clone(bus.transport());
    let acme = Bus::builder("gw")
        .tenant("acme")
        .transport_instance(transport);
    let acme = acme.connect().await.unwrap();
    acme.handle("dump", |r: Request| async move { Ok(dump(&r)) })
        .await
        .unwrap();
    let mut config = ServerConfig::new(dir.join("data"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.auth = AuthMode::Off;
    config.allowed_hosts = vec!["gateway".to_owned()];
    config.invoke_timeout = Duration::from_millis(1500);
    config.stream_timeout = Some(Duration::from_millis(1500));
    config.stream_idle_timeout = Duration::from_millis(700);
    Server::start(config, bus).await.unwrap()
}

async fn handlers(bus: &Bus) -> Result<(), Error> {
    bus.handle("echo", |r: Request| async move { Ok(r.payload().cloned()) })
        .await?;
    bus.handle("nil", |_| async { Ok(()) }).await?;
    bus.handle("err", |_: Request| async {
        Err::<(), _>(Error::agent("boom"))
    })
    .await?;
    bus.handle("slow", |_| async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(())
    })
    .await?;
    bus.handle("dump", |r: Request| async move { Ok(dump(&r)) })
        .await?;
    bus.handle("code", |r: Request| async move { Err::<(), _>(coded(&r)?) })
        .await?;
    bus.handle_stream("count", |_, out| async move {
        out.started(&json!({"meta": {"model": "demo"}})).await?;
        for said in ["a", "b"] {
            out.delta(&json!({"delta": said})).await?;
        }
        out.finish(&json!({"result": {"n": 2}})).await
    })
    .await?;
    bus.handle_stream("serr", |_, out| async move {
        out.delta(&json!({"delta": "a"})).await?;
        Err(Error::agent("boom"))
    })
    .await?;
    bus.handle_stream("sidle", |_, out| async move {
        out.delta(&json!({"delta": "a"})).await?;
        std::future::pending().await
    })
    .await?;
    Ok(())
}

fn dump(request: &Request) -> Value {
    let envelope = request.envelope();
    let context = &envelope.context;
    json!({
        "event_type": envelope.event_type.as_str(), "frame_type": envelope.frame_type.as_str(),
        "from": envelope.from.as_str(), "to": envelope.to.as_str(),
        "trace_id": context.trace_id.as_str(), "traceparent": context.traceparent.as_str(),
        "tenant_id": context.tenant_id.as_str(), "session_id": context.session_id.as_str(),
        "conversation_id": context.conversation_id.as_str(), "user_id": context.user_id.as_str(),
        "channel": context.channel.as_str(),
    })
}

fn coded(request: &Request) -> Result<Error, Error> {
    let asked: Value = request.json()?;
    let code = ErrorCode::parse(asked["code"].as_str().unwrap_or_default());
    let mut payload = ErrorPayload::new(code, "m");
    payload.retryable = false;
    payload.cause = serde_json::value::to_raw_value(&json!({"c": 1})).ok();
    Ok(payload.into())
}

struct Answer {
    status: u16,
    headers: String,
    body: String,
}

fn split(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = head.to_ascii_lowercase();
    let body = if headers.contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Answer {
        status,
        headers,
        body,
    }
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        out.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    out
}

async fn ask(server: &RunningServer, request: &str) -> Answer {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(60), reading)
        .await
        .unwrap()
        .unwrap();
    split(&String::from_utf8(answer).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_exchanges_are_reproduced() {
    let Some(capture) = captured::<Capture>("http-01-python-adapter.json") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path()).await;
    let mut compared = 0;
    for exchange in &capture.exchanges {
        // Bearer validators of the other adapter have no counterpart; the header matrix and the
        // token tests cover authentication. One request is recorded in part only.
        if exchange.name.starts_with("auth-") || exchange.request.contains("bytes total]") {
            continue;
        }
        compare(&server, exchange).await;
        compared += 1;
    }
    assert!(compared >= 30, "only {compared} exchanges");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_of_another_implementation_sends_is_answered_alike() {
    let Some(client) = captured::<Client>("ts-01-client-vs-python-adapter.json") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path()).await;
    let port = server.local_addr().port().to_string();
    let mut compared = 0;
    for (name, call) in client.calls {
        for Raw { request, response } in call.http {
            let exchange = Exchange {
                name: name.clone(),
                request: request.replace("127.0.0.1:PORT", &format!("127.0.0.1:{port}")),
                response,
            };
            compare(&server, &exchange).await;
            compared += 1;
        }
    }
    assert!(compared >= 8, "only {compared} exchanges");
    server.shutdown().await;
}

async fn compare(server: &RunningServer, exchange: &Exchange) {
    let name = exchange.name.as_str();
    let (ours, theirs) = (
        ask(server, &exchange.request).await,
        split(&exchange.response),
    );
    if let Some((status, body)) = deliberately_different(name) {
        assert_eq!(ours.status, status, "{name}: {}", ours.body);
        let read: Value = serde_json::from_str(&ours.body).unwrap();
        for (key, value) in body.iter().flat_map(|body| body.as_object().unwrap()) {
            assert_eq!(&read[key], value, "{name}");
        }
        return;
    }
    assert_eq!(ours.status, theirs.status, "{name}: {}", ours.body);
    if theirs.headers.contains("text/event-stream") {
        for wanted in [
            "text/event-stream",
            "cache-control: no-cache",
            "x-accel-buffering: no",
        ] {
            assert!(ours.headers.contains(wanted), "{name}: {wanted}");
        }
        return compare_events(name, &ours.body, &theirs.body);
    }
    let json = |body: &str| serde_json::from_str::<Value>(body).ok();
    match (json(&ours.body), json(&theirs.body)) {
        (Some(mut ours), Some(mut theirs)) => {
            if theirs["traceparent"] == "" {
                // A request without a trace begins one here.
                assert_ne!(ours["traceparent"], "", "{name}");
                ours["traceparent"].take();
                theirs["traceparent"].take();
            }
            assert_eq!(ours, theirs, "{name}");
        }
        _ => assert_eq!(ours.body, theirs.body, "{name}"),
    }
}

/// Compares the layout of each block to the letter, and the envelopes in them.
fn compare_events(name: &str, ours: &str, theirs: &str) {
    let blocks = |body: &str| -> Vec<Vec<String>> {
        body.split_terminator("\n\n")
            .map(|b| b.split('\n').map(str::to_owned).collect())
            .collect()
    };
    let (ours, theirs) = (blocks(ours), blocks(theirs));
    assert_eq!(ours.len(), theirs.len(), "{name}: {ours:?}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let fields = |block: &[String]| -> Vec<String> {
            block
                .iter()
                .map(|line| line.split(": ").next().unwrap().to_owned())
                .collect()
        };
        assert_eq!(fields(ours), fields(theirs), "{name}");
        assert_eq!((&ours[0], &ours[2]), (&theirs[0], &theirs[2]), "{name}");
        let envelope = |block: &[String]| -> Value {
            serde_json::from_str(block[3].strip_prefix("data: ").unwrap()).unwrap()
        };
        let id = ours[1].strip_prefix("id: ").unwrap();
        let (ours, theirs) = (envelope(ours), envelope(theirs));
        assert_eq!(ours["event_id"], id, "{name}: the id of the block");
        compare_envelopes(name, ours, theirs);
    }
}

/// Compares two frames, all but what is made anew for each: the ids, the time and the trace.
fn compare_envelopes(name: &str, mut ours: Value, mut theirs: Value) {
    let take = |of: &mut Value, key: &str| of.as_object_mut().unwrap().remove(key);
    for made in ["event_id", "occurred_at"] {
        assert!(take(&mut theirs, made).is_some(), "{name}: {made}");
        assert!(take(&mut ours, made).is_some(), "{name}: {made}");
    }
    // A request without a trace begins one here.
    if theirs.get("traceparent").is_none() {
        assert!(take(&mut ours, "traceparent").is_some(), "{name}");
    }
    // Every frame here names its request, also one that the gateway makes itself. Theirs names
    // neither the request nor the agents then, and says why in other words.
    assert!(take(&mut ours, "correlation_id").is_some(), "{name}");
    if take(&mut theirs, "correlation_id").is_none() {
        for agent in ["from", "to"] {
            assert_eq!(take(&mut ours, agent), Some(json!("gw")), "{name}");
        }
        for frame in [&mut ours, &mut theirs] {
            let why = take(&mut frame["payload"], "message").unwrap();
            assert!(!why.as_str().unwrap().is_empty(), "{name}");
        }
    }
    // No cause is written as an empty one there.
    if theirs["payload"].get("cause") == Some(&json!({})) {
        take(&mut theirs["payload"], "cause");
    }
    assert_eq!(ours, theirs, "{name}");
}
