//! Tenants over HTTP and WebSocket: who names one, speaks and listens there.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/host.rs"]
mod host;

use std::sync::Arc;
use std::time::Duration;

use agentbus::protocol::SubjectSpace;
use agentbus::{Builder, Bus, Context, ErrorCode, Request};
use agentbus_server::RunningServer;
use agentbus_transport_ws::WsTransport;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use host::{ask, open_server, post};

const GUARD: Duration = Duration::from_secs(60);

const ACME: &str = "X-Tenant-Id: acme\r\n";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Begins a bus that joins the one of the host.
async fn join(server: &RunningServer, agent: &str) -> Builder {
    let transport = WsTransport::connect(&server.url(), agent).await.unwrap();
    Bus::builder(agent).transport_instance(Arc::new(transport))
}

/// Reads events; from here on nothing is missed.
async fn follow(server: &RunningServer, headers: &str) -> Lines<BufReader<TcpStream>> {
    let address = server.local_addr();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET /v1/events?pattern=order.* HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    while lines.next_line().await.unwrap().unwrap() != ": hb" {}
    lines
}

/// The next event.
async fn next(lines: &mut Lines<BufReader<TcpStream>>) -> Value {
    loop {
        let line = tokio::time::timeout(GUARD, lines.next_line()).await;
        let line = line.unwrap().unwrap().unwrap();
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

async fn publish(server: &RunningServer, headers: &str, body: &str) {
    let request = post(server, "/v1/events/order.paid", headers, body);
    let (status, answer) = ask(server, &request).await;
    assert_eq!(status, 202, "{answer}");
}

#[tokio::test]
async fn readers_of_events_hear_the_tenant_that_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("test").connect().await.unwrap();
    let server = open_server(dir.path(), bus).await;
    let mut plain = follow(&server, "").await;
    let mut acme = follow(&server, ACME).await;
    publish(&server, ACME, "1").await;
    publish(&server, "", "2").await;
    publish(&server, ACME, "3").await;
    let first = next(&mut acme).await;
    assert_eq!(
        (&first["payload"], &first["tenant_id"]),
        (&json!(1), &json!("acme"))
    );
    assert_eq!(next(&mut acme).await["payload"], 3);
    // What it hears first is what came second.
    assert_eq!(next(&mut plain).await["payload"], 2);
    server.shutdown().await;
}

#[tokio::test]
async fn a_name_that_would_reach_elsewhere_is_refused_to_readers() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("test").connect().await.unwrap();
    let server = open_server(dir.path(), bus).await;
    let address = server.local_addr();
    for bad in ["a.b", "*", ">", "events"] {
        let request = format!(
            "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX-Tenant-Id: {bad}\r\n\r\n"
        );
        let (status, answer) = ask(&server, &request).await;
        assert_eq!(status, 400, "{bad}: {answer}");
        assert!(
            answer.contains("INVALID_REQUEST") && answer.contains("tenant"),
            "{answer}"
        );
    }
    server.shutdown().await;
}

/// Connects by hand, with a tenant in the header, and returns the welcome too.
async fn socket(server: &RunningServer, tenant: &str) -> (Socket, Value) {
    let url = format!("ws://{}/v1/ws", server.local_addr());
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("x-tenant-id", tenant.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let welcome = asks(&mut socket, &json!({ "hello": { "agent": "me" } })).await;
    (socket, welcome)
}

/// Says a frame and returns the next one that comes.
async fn asks(socket: &mut Socket, frame: &Value) -> Value {
    socket.send(Message::text(frame.to_string())).await.unwrap();
    loop {
        let next = tokio::time::timeout(GUARD, socket.next()).await.unwrap();
        if let Message::Text(text) = next.unwrap().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[tokio::test]
async fn a_websocket_speaks_and_listens_in_the_tenant_of_its_header() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("test").connect().await.unwrap();
    let server = open_server(dir.path(), bus).await;
    let agent = join(&server, "agent").await.tenant("acme");
    let agent = agent.connect().await.unwrap();
    agent
        .handle("who", |_: Request| async { Ok(json!("acme's")) })
        .await
        .unwrap();
    let (mut acme, welcome) = socket(&server, "acme").await;
    assert_eq!(welcome["welcome"]["tenant"], "acme", "{welcome}");
    let invoke = json!({ "invoke": { "id": 1, "target": "who" } });
    let reply = asks(&mut acme, &invoke).await;
    assert_eq!(reply["reply"]["envelope"]["payload"], "acme's", "{reply}");
    let subscribe = json!({ "subscribe": { "id": 2, "sub": 7, "pattern": "order.*" } });
    assert_eq!(asks(&mut acme, &subscribe).await["ok"]["id"], 2);
    publish(&server, "", "1").await;
    let (mut plain, _) = socket(&server, "").await;
    let refused = asks(&mut plain, &invoke).await;
    assert_eq!(refused["error"]["error"]["code"], "NO_HANDLER", "{refused}");
    let publish = json!({ "publish": { "id": 3, "event_type": "order.paid", "payload": 2 } });
    let (mut other, _) = socket(&server, "acme").await;
    assert_eq!(asks(&mut other, &publish).await["ok"]["receivers"], 1);
    let settle = json!({ "settle": { "sub": 7, "delivery": 9, "verdict": "ack" } });
    let heard = asks(&mut acme, &settle).await;
    assert_eq!(heard["message"]["envelope"]["payload"], 2, "{heard}");
    server.shutdown().await;
}

#[tokio::test]
async fn who_joins_a_bus_speaks_under_its_subjects_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("test")
        .subject_prefix("corp.bus")
        .tenant("acme");
    let bus = bus.connect().await.unwrap();
    bus.handle("who", |_: Request| async { Ok(json!("acme's")) })
        .await
        .unwrap();
    let server = open_server(dir.path(), bus).await;
    let joined = join(&server, "a").await.connect().await.unwrap();
    let own = SubjectSpace::new("corp.bus", "acme").unwrap();
    assert_eq!(joined.subjects(), &own);
    let reply = joined.invoke("who", &1).await.unwrap();
    assert_eq!(reply.payload.unwrap().as_str(), "\"acme's\"");
    let other = join(&server, "b").await.tenant("other");
    let other = other.connect().await.unwrap();
    let error = other.invoke("who", &1).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoHandler, "{error}");
    let mut context = Context::default();
    context.edit().tenant_id = "acme".into();
    other.invoke("who", &1).context(context).await.unwrap();
    let strange = join(&server, "c").await.subject_prefix("acp.v1");
    let error = strange.connect().await.unwrap_err();
    assert!(error.to_string().contains("`corp.bus`"), "{error}");
    // Who serves in another tenant is listed with it.
    let agent = other.handle("there", |_: Request| async { Ok(json!(1)) });
    let _serving = agent.await.unwrap();
    let address = server.local_addr();
    let request =
        format!("GET /v1/targets HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let (_, answer) = ask(&server, &request).await;
    let listed = r#""name":"there","agent":"b""#;
    let tenant = r#""tenant":"other""#;
    assert!(
        answer.contains(listed) && answer.contains(tenant),
        "{answer}"
    );
    server.shutdown().await;
}

#[tokio::test]
async fn an_event_from_a_websocket_names_its_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("test").connect().await.unwrap();
    let server = open_server(dir.path(), bus).await;
    let mut reader = follow(&server, ACME).await;
    let (mut acme, _) = socket(&server, "acme").await;
    let publish = json!({ "publish": { "id": 1, "event_type": "order.paid", "payload": 5 } });
    assert_eq!(asks(&mut acme, &publish).await["ok"]["id"], 1);
    let heard = next(&mut reader).await;
    assert_eq!(
        (&heard["payload"], &heard["tenant_id"]),
        (&json!(5), &json!("acme"))
    );
    server.shutdown().await;
}

/// A name has no tenant: whoever is let in is told those of all, as over HTTP.
#[tokio::test]
async fn durable_names_of_all_tenants_are_listed_to_each() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("bus.db").display());
    let bus = Bus::builder("test").transport(url).connect().await.unwrap();
    let server = open_server(dir.path(), bus.clone()).await;
    let own = bus.subscribe("order.*").durable("own").await.unwrap();
    let (mut acme, welcome) = socket(&server, "acme").await;
    let carrier = &welcome["welcome"]["carrier"];
    assert_eq!(carrier["durable_listing"], true, "{welcome}");
    let subscribe =
        json!({ "subscribe": { "id": 1, "sub": 7, "pattern": "order.*", "durable": "theirs" } });
    assert_eq!(asks(&mut acme, &subscribe).await["ok"]["id"], 1);
    let listed = asks(&mut acme, &json!({ "list_durables": { "id": 2 } })).await;
    assert_eq!(listed["durables"]["id"], 2, "{listed}");
    let host = server.local_addr();
    let request =
        format!("GET /v1/durables HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{ACME}\r\n");
    let (status, answer) = ask(&server, &request).await;
    assert_eq!(status, 200, "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let over_http: Value = serde_json::from_str(body).unwrap();
    for listed in [&listed["durables"], &over_http] {
        let durables = listed["durables"].as_array().unwrap().iter();
        let told = durables.map(|it| (it["name"].clone(), it["pattern"].clone()));
        let expected = [
            (json!("own"), json!("acp.v1.events.order.*")),
            (json!("theirs"), json!("acp.v1.acme.events.order.*")),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected, "{listed}");
    }
    drop(own);
    server.shutdown().await;
}
