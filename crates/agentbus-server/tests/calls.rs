//! Calls as their clients see them: over a WebSocket, and over HTTP while the host stops.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/host.rs"]
mod host;

use std::sync::Arc;
use std::time::Duration;

use agentbus::middleware::Trace;
use agentbus::protocol::TraceParent;
use agentbus::{Bus, Error, Payload, Request};
use agentbus_server::{AuthMode, RunningServer, Server};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use host::{ask, open_server, post};

/// How long anything may take that is awaited; nothing here takes a fraction of it.
const GUARD: Duration = Duration::from_secs(60);

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A client that speaks frames by hand.
struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects, and says nothing yet.
    async fn silent(server: &RunningServer) -> Self {
        let url = format!("ws://{}/v1/ws", server.local_addr());
        Self(tokio_tungstenite::connect_async(url).await.unwrap().0)
    }

    async fn open(server: &RunningServer) -> Self {
        let mut socket = Self::silent(server).await;
        socket.says(&json!({ "hello": { "agent": "me" } })).await;
        let welcome = socket.hears().await.unwrap();
        assert_eq!(welcome["welcome"]["agent"], "me", "{welcome}");
        socket
    }

    async fn says(&mut self, frame: &Value) {
        self.says_text(&frame.to_string()).await;
    }

    async fn says_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next frame; `None` when the host has hung up.
    async fn hears(&mut self) -> Option<Value> {
        loop {
            let next = tokio::time::timeout(GUARD, self.0.next()).await.unwrap();
            match next {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(other)) => panic!("{other:?}"),
            }
        }
    }

    /// Says a frame and returns what comes next.
    async fn asks(&mut self, frame: &Value) -> Value {
        self.says(frame).await;
        self.hears().await.unwrap()
    }
}

/// Tells when a handler begins, and when it is over however it ends.
struct Told(mpsc::UnboundedSender<&'static str>);

impl Told {
    fn begin(tell: &mpsc::UnboundedSender<&'static str>) -> Self {
        let _ = tell.send("begun");
        Self(tell.clone())
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send("over");
    }
}

async fn next(told: &mut mpsc::UnboundedReceiver<&'static str>) -> &'static str {
    let next = tokio::time::timeout(GUARD, told.recv()).await;
    next.unwrap().unwrap()
}

/// Agents that answer, fail, speak, break off and never end.
async fn agents() -> (Bus, mpsc::UnboundedReceiver<&'static str>) {
    let bus = Bus::builder("host").connect().await.unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    bus.handle("echo", |request: Request| async move {
        let envelope = request.envelope();
        let context = &envelope.context;
        let said: Value = request.json()?;
        Ok(json!([
            said,
            envelope.from.as_str(),
            context.session_id.as_str(),
            context.traceparent.as_str()
        ]))
    })
    .await
    .unwrap();
    bus.handle("bad", |_: Request| async {
        Err::<(), _>(Error::agent("out of paper"))
    })
    .await
    .unwrap();
    bus.handle_stream("count", |_, out| async move {
        for n in 0..3 {
            out.delta(&n).await?;
        }
        out.finish(&"done").await
    })
    .await
    .unwrap();
    bus.handle_stream("breaks", |_, out| async move {
        out.delta(&1).await?;
        Err(Error::agent("out of paper"))
    })
    .await
    .unwrap();
    let stuck = tell.clone();
    bus.handle("stuck", move |_: Request| {
        let told = Told::begin(&stuck);
        async move {
            let _told = told;
            std::future::pending::<Result<(), Error>>().await
        }
    })
    .await
    .unwrap();
    bus.handle_stream("endless", move |_, out| {
        let told = Told::begin(&tell);
        async move {
            let _told = told;
            out.delta(&"first").await?;
            std::future::pending().await
        }
    })
    .await
    .unwrap();
    (bus, told)
}

#[tokio::test]
async fn an_invoke_over_a_socket_is_answered_with_a_reply_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (bus, _told) = agents().await;
    let server = open_server(dir.path(), bus).await;
    let mut socket = Socket::open(&server).await;
    let call = json!({ "invoke": { "id": 1, "target": "echo", "payload": { "a": 1 },
        "session_id": "s1", "traceparent": TRACE } });
    let answer = socket.asks(&call).await;
    let reply = &answer["reply"]["envelope"];
    assert_eq!(answer["reply"]["id"], 1, "{answer}");
    assert_eq!(reply["payload"], json!([{ "a": 1 }, "me", "s1", TRACE]));
    assert_eq!(
        (&reply["event_type"], &reply["is_final"], &reply["to"]),
        (&json!("agent.response.final"), &json!(true), &json!("me"))
    );
    for (id, target, more, code, says) in [
        (2, "bad", json!({}), "AGENT_UNAVAILABLE", "out of paper"),
        (3, "nobody", json!({}), "NO_HANDLER", "nobody"),
        (4, "a..b", json!({}), "INVALID_REQUEST", "empty token"),
        (
            5,
            "stuck",
            json!({ "timeout_ms": 1 }),
            "AGENT_TIMEOUT",
            "stuck",
        ),
    ] {
        let mut call = json!({ "id": id, "target": target });
        let more = more.as_object().unwrap().clone();
        call.as_object_mut().unwrap().extend(more);
        let answer = socket.asks(&json!({ "invoke": call })).await;
        let error = &answer["error"];
        assert_eq!(
            (&error["id"], &error["error"]["code"]),
            (&json!(id), &json!(code))
        );
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_stream_over_a_socket_is_frames_and_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let (bus, _told) = agents().await;
    let server = open_server(dir.path(), bus).await;
    let mut socket = Socket::open(&server).await;
    let stream = |id: u64, target: &str| json!({ "stream": { "id": id, "target": target } });
    socket.says(&stream(7, "count")).await;
    let mut seen = Vec::new();
    let end = loop {
        let mut said = socket.hears().await.unwrap();
        match said["frame"].take() {
            Value::Null => break said,
            frame => {
                assert_eq!(frame["id"], 7, "{frame}");
                let envelope = &frame["envelope"];
                seen.push((envelope["payload"].clone(), envelope["is_final"] == true));
            }
        }
    };
    assert_eq!(end["end"], json!({ "id": 7 }));
    let expected = [json!(0), json!(1), json!(2), json!("done")];
    let finals = [false, false, false, true];
    assert_eq!(seen, expected.into_iter().zip(finals).collect::<Vec<_>>());

    // An agent that breaks off says why in its last frame.
    let delta = socket.asks(&stream(8, "breaks")).await;
    assert_eq!(delta["frame"]["envelope"]["payload"], 1, "{delta}");
    let last = socket.hears().await.unwrap();
    let envelope = &last["frame"]["envelope"];
    assert_eq!(envelope["event_type"], "agent.response.error", "{last}");
    assert_eq!(envelope["payload"]["code"], "AGENT_UNAVAILABLE", "{last}");
    assert_eq!(socket.hears().await.unwrap()["end"]["id"], 8);

    let nobody = socket.asks(&stream(9, "nobody")).await;
    let error = &nobody["error"];
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!(9), &json!("NO_HANDLER"))
    );
    server.shutdown().await;
}

#[tokio::test]
async fn what_is_given_up_over_a_socket_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let (bus, mut told) = agents().await;
    let server = open_server(dir.path(), bus).await;
    let mut socket = Socket::open(&server).await;
    let stream = json!({ "stream": { "id": 1, "target": "endless" } });
    let delta = socket.asks(&stream).await;
    assert_eq!(delta["frame"]["envelope"]["payload"], "first", "{delta}");
    assert_eq!(next(&mut told).await, "begun");
    // Its number is taken for as long as it runs.
    let twice = socket.asks(&stream).await;
    let message = twice["error"]["error"]["message"].as_str().unwrap();
    assert!(message.contains("the number 1 is in use"), "{message}");
    socket.says(&json!({ "cancel": { "id": 1 } })).await;
    assert_eq!(next(&mut told).await, "over");

    socket
        .says(&json!({ "invoke": { "id": 2, "target": "stuck" } }))
        .await;
    assert_eq!(next(&mut told).await, "begun");
    socket.says(&json!({ "cancel": { "id": 2 } })).await;
    assert_eq!(next(&mut told).await, "over");
    // Nothing more was said of either; to give up what is not there does nothing.
    socket.says(&json!({ "cancel": { "id": 3 } })).await;
    let echo = json!({ "invoke": { "id": 4, "target": "echo", "payload": 1 } });
    assert_eq!(socket.asks(&echo).await["reply"]["id"], 4);

    // Who leaves gives up everything.
    let again = socket
        .asks(&json!({ "stream": { "id": 5, "target": "endless" } }))
        .await;
    assert_eq!(again["frame"]["id"], 5, "{again}");
    assert_eq!(next(&mut told).await, "begun");
    drop(socket);
    assert_eq!(next(&mut told).await, "over");
    server.shutdown().await;
}

#[tokio::test]
async fn a_frame_that_cannot_be_read_ends_the_connection_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (bus, _told) = agents().await;
    let server = open_server(dir.path(), bus).await;
    for (frame, says) in [
        ("{bad", "not a frame of this protocol"),
        ("[]", "not a frame of this protocol"),
        (r#"{"sing":{"id":1}}"#, "unknown variant `sing`"),
        (r#"{"invoke":{"id":1}}"#, "missing field `target`"),
        (r#"{"invoke":{"id":"one","target":"echo"}}"#, "invalid type"),
        (
            r#"{"stream":{"id":1,"target":"count","tmeout_ms":1}}"#,
            "unknown field `tmeout_ms`",
        ),
        (r#"{"cancel":{}}"#, "missing field `id`"),
    ] {
        let mut socket = Socket::open(&server).await;
        socket.says_text(frame).await;
        let said = socket.hears().await.unwrap();
        let error = &said["error"];
        assert_eq!(error["error"]["code"], "INVALID_REQUEST", "{frame}: {said}");
        assert_eq!(error.get("id"), None, "{frame}: {said}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{frame}: {message}");
        assert_eq!(socket.hears().await, None, "{frame}");
    }
    let mut binary = Socket::open(&server).await;
    binary.0.send(Message::binary(vec![1_u8])).await.unwrap();
    let said = binary.hears().await.unwrap().to_string();
    assert!(said.contains("frames are text, not binary"), "{said}");
    assert_eq!(binary.hears().await, None);
    let mut rude = Socket::silent(&server).await;
    let said = rude
        .asks(&json!({ "cancel": { "id": 1 } }))
        .await
        .to_string();
    assert!(said.contains("the first frame must be a `hello`"), "{said}");
    assert_eq!(rude.hears().await, None);
    server.shutdown().await;
}

/// A frame with the mask of zeros, which changes nothing.
fn raw(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn a_fault_has_its_code_in_the_close_frame() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("host").connect().await.unwrap();
    let server = open_server(dir.path(), bus).await;
    // Its head says that 2^32 bytes follow.
    let endless = vec![0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    for (frame, code) in [
        (raw(1, b"{bad"), 1007),
        (raw(1, b"\xff"), 1007),
        (raw(1, br#"{"cancel":{"id":1}}"#), 1008),
        (raw(2, b"x"), 1003),
        (raw(3, b""), 1002),
        (endless, 1009),
    ] {
        let mut socket = Socket::silent(&server).await.0;
        socket.get_mut().write_all(&frame).await.unwrap();
        let told = loop {
            let next = tokio::time::timeout(GUARD, socket.next()).await.unwrap();
            match next.unwrap().unwrap() {
                Message::Close(told) => break told.unwrap(),
                Message::Text(text) => assert!(text.contains("INVALID_REQUEST"), "{text}"),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(u16::from(told.code), code, "{frame:?}: {told}");
        assert!((1..=123).contains(&told.reason.len()), "{told}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_trace_goes_through_a_call_over_http_and_comes_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("host").layer(Trace).connect().await.unwrap();
    bus.handle("traced", |request: Request| async move {
        let own = request.envelope().context.traceparent.to_string();
        request.bus().publish("trace.seen", &own).await?;
        Ok(json!(own))
    })
    .await
    .unwrap();
    let mut events = bus.subscribe("trace.*").await.unwrap();
    let server = open_server(dir.path(), bus).await;
    let parent = TraceParent::parse(TRACE).unwrap();
    for (headers, ours) in [
        (format!("traceparent: {TRACE}\r\n"), true),
        (format!("Traceparent: {TRACE}\r\n"), true),
        ("traceparent: nonsense\r\n".to_owned(), false),
    ] {
        let request = post(&server, "/v1/agents/traced/invoke", &headers, "1");
        let (status, answer) = ask(&server, &request).await;
        assert_eq!(status, 200, "{answer}");
        let body = answer.rsplit("\r\n").next().unwrap();
        let seen: String = serde_json::from_str(body).unwrap();
        let seen = TraceParent::parse(&seen).unwrap();
        assert_eq!(seen.trace_id() == parent.trace_id(), ours, "{headers}");
        assert_ne!(seen.span_id(), parent.span_id(), "{headers}");
        let event = tokio::time::timeout(GUARD, events.next()).await;
        let event = event.unwrap().unwrap();
        let out = TraceParent::parse(&event.envelope().context.traceparent).unwrap();
        assert_eq!(out.trace_id(), seen.trace_id(), "{headers}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_host_that_stops_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("host").connect().await.unwrap();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go));
    bus.handle("slow", move |_: Request| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            Ok(json!("finished"))
        }
    })
    .await
    .unwrap();
    let mut config = host::config(dir.path());
    config.auth = agentbus_server::AuthMode::Off;
    config.drain = GUARD;
    let server = agentbus_server::Server::start(config, bus).await.unwrap();
    let address = server.local_addr();
    let ready = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(&server, &ready).await.0, 200);
    // Who has begun to ask before the stop is answered after it; nobody else gets in any more.
    let (half, rest) = ready.split_at(10);
    let mut asking = TcpStream::connect(address).await.unwrap();
    asking.write_all(half.as_bytes()).await.unwrap();
    let mut calling = TcpStream::connect(address).await.unwrap();
    let call = post(&server, "/v1/agents/slow/invoke", "", "1");
    calling.write_all(call.as_bytes()).await.unwrap();
    tokio::time::timeout(GUARD, begun.notified()).await.unwrap();
    let stopped = tokio::spawn(server.shutdown());
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(GUARD, refused).await.unwrap();
    asking.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with(r#"{"status":"stopping"}"#), "{answer}");
    go.notify_one();
    let mut answer = String::new();
    calling.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\"finished\""), "{answer}");
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_of_events_is_told_how_many_it_has_missed() {
    const EVENTS: usize = 5000;
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("host").connect().await.unwrap();
    let server = open_server(dir.path(), bus.clone()).await;
    let address = server.local_addr();
    let mut reading = TcpStream::connect(address).await.unwrap();
    // Of HTTP/1.0, so that the body comes as it is.
    let request = format!("GET /v1/events?pattern=job.* HTTP/1.0\r\nHost: {address}\r\n\r\n");
    reading.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(reading).lines();
    let mut next = async || {
        let next = tokio::time::timeout(GUARD, lines.next_line()).await;
        next.unwrap().unwrap().unwrap()
    };
    while next().await != ": hb" {}
    // Far more than the buffers of the system and the queue of the reader hold together.
    let payload = Payload::text(&"x".repeat(16 * 1024));
    for _ in 1..EVENTS {
        let event = bus.publish_payload("job.done", Some(payload.clone()));
        event.await.unwrap();
    }
    bus.publish("job.last", &0).await.unwrap();
    let (mut seen, mut missed) = (1, 0);
    loop {
        let line = next().await;
        if let Some(count) = line.strip_prefix(": missed ") {
            missed += count.parse::<usize>().unwrap();
        }
        match line.as_str() {
            "event: job.last" => break,
            "event: job.done" => seen += 1,
            _ => {}
        }
    }
    assert!(missed > 0, "nothing was lost: the test does not test");
    assert_eq!(seen + missed, EVENTS);
    server.shutdown().await;
}

#[tokio::test]
async fn a_verdict_that_is_none_is_refused_and_the_delivery_stays() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("host").connect().await.unwrap();
    let server = open_server(dir.path(), bus.clone()).await;
    let mut socket = Socket::open(&server).await;
    let subscribe = json!({ "subscribe": { "id": 1, "sub": 7, "pattern": "job.*" } });
    assert_eq!(socket.asks(&subscribe).await["ok"]["id"], 1);
    let publishing = tokio::spawn(async move { bus.publish("job.done", &1).confirm().await });
    let message = socket.hears().await.unwrap();
    let delivery = &message["message"]["delivery"];
    let settle = |id: u64, verdict: &str| {
        let settle = json!({ "id": id, "sub": 7, "delivery": delivery, "verdict": verdict });
        json!({ "settle": settle })
    };
    let refused = socket.asks(&settle(2, "Ack")).await;
    assert_eq!(refused["error"]["id"], 2, "{refused}");
    assert!(
        refused.to_string().contains("`Ack` is no verdict"),
        "{refused}"
    );
    assert_eq!(socket.asks(&settle(3, "ack")).await["ok"]["id"], 3);
    let confirmed = tokio::time::timeout(GUARD, publishing).await.unwrap();
    confirmed.unwrap().unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn a_drain_time_without_end_is_no_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("host").connect().await.unwrap();
    let mut config = host::config(dir.path());
    (config.drain, config.auth) = (Duration::MAX, AuthMode::Off);
    let server = Server::start(config, bus).await.unwrap();
    let stopping = tokio::time::timeout(GUARD, server.shutdown());
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_goodbye_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("host").connect().await.unwrap();
    let server = open_server(dir.path(), bus).await;
    let mut socket = Socket::open(&server).await;
    socket.0.close(None).await.unwrap();
    let last = tokio::time::timeout(GUARD, socket.0.next()).await.unwrap();
    assert!(matches!(last, Some(Ok(Message::Close(_)))), "{last:?}");
    server.shutdown().await;
}

/// What the carrier cannot do is an error of that question, and the connection goes on.
#[tokio::test]
async fn a_list_of_durable_names_that_there_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("host").connect().await.unwrap();
    let server = open_server(dir.path(), bus).await;
    let mut socket = Socket::open(&server).await;
    for id in [1_u64, 2] {
        let refused = socket.asks(&json!({ "list_durables": { "id": id } })).await;
        assert_eq!(refused["error"]["id"], id, "{refused}");
        let error = &refused["error"]["error"];
        assert_eq!(error["code"], "INVALID_REQUEST", "{refused}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("sqlite://PATH"), "{refused}");
    }
    server.shutdown().await;
}
