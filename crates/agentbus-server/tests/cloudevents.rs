//! CloudEvents over HTTP, in and out, and beside ordinary subscribers.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/host.rs"]
mod host;

use std::time::Duration;

use agentbus::{Bus, Request};
use agentbus_server::{AuthMode, RunningServer, Server, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const GUARD: Duration = Duration::from_secs(60);

async fn start(dir: &std::path::Path) -> (RunningServer, Bus) {
    let bus = Bus::builder("test").connect().await.unwrap();
    let mut config = ServerConfig::new(dir.join("data"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.auth = AuthMode::Off;
    let server = Server::start(config, bus.clone()).await.unwrap();
    (server, bus)
}

async fn send(server: &RunningServer, head: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let (host, length) = (server.local_addr(), body.len());
    let request = format!("{head} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Posts; `fields` are header lines.
async fn post(server: &RunningServer, fields: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let (host, length) = (server.local_addr(), body.len());
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(GUARD, reading).await.unwrap().unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn what_is_posted_reaches_a_reader_of_cloud_events_and_a_subscriber() {
    let dir = tempfile::tempdir().unwrap();
    let (server, bus) = start(dir.path()).await;
    let reading = send(
        &server,
        "GET /v1/events?pattern=com.%3E&format=cloudevents",
        "\r\n",
    )
    .await;
    let mut lines = BufReader::new(reading).lines();
    // The first comment says that nothing is missed from now on.
    while lines.next_line().await.unwrap().unwrap() != ": hb" {}
    let mut plain = bus.subscribe("com.>").await.unwrap();
    let batch = json!([
        {"specversion":"1.0","id":"1","source":"/shop","type":"com.shop.paid","data":{"n":1}},
        {"specversion":"1.0","id":"2","source":"/shop","type":"com.shop.sent","tag":"x"},
    ]);
    let fields = "Content-Type: application/cloudevents-batch+json";
    let (status, answer) = post(&server, fields, &batch.to_string()).await;
    assert_eq!(status, 202, "{answer}");
    let binary = "ce-specversion: 1.0\r\nce-id: 3\r\nce-source: /shop\r\nce-type: com.shop.told\r\nContent-Type: application/json";
    assert_eq!(post(&server, binary, "[3]").await.0, 202);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let line = tokio::time::timeout(GUARD, lines.next_line()).await;
        let line = line.unwrap().unwrap().unwrap();
        if let Some(data) = line.strip_prefix("data: ") {
            seen.push(serde_json::from_str::<Value>(data).unwrap());
        }
    }
    assert_eq!(
        (&seen[0]["data"], &seen[0]["source"]),
        (&json!({"n":1}), &json!("/shop"))
    );
    assert_eq!(
        (&seen[1]["tag"], &seen[1]["id"]),
        (&json!("x"), &json!("2"))
    );
    assert_eq!(
        (&seen[2]["data"], &seen[2]["type"]),
        (&json!([3]), &json!("com.shop.told"))
    );
    let first = plain.next().await.unwrap();
    assert_eq!(first.envelope().event_type.as_str(), "com.shop.paid");
    // Whoever posts does not choose who it is.
    assert_eq!(first.envelope().from.as_str(), "test");
}

#[tokio::test]
async fn nothing_of_a_wrong_batch_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let (server, bus) = start(dir.path()).await;
    let mut all = bus.subscribe(">").await.unwrap();
    let batch = r#"[{"specversion":"1.0","id":"1","source":"s","type":"t"},{"specversion":"2.0"}]"#;
    let fields = "Content-Type: application/cloudevents-batch+json";
    let (status, answer) = post(&server, fields, batch).await;
    assert_eq!(status, 400);
    assert!(answer.contains("event 1 of the batch"), "{answer}");
    assert_eq!(
        post(&server, "Content-Type: application/json", "{}")
            .await
            .0,
        400
    );
    bus.publish("last", &1).await.unwrap();
    let first = all.next().await.unwrap();
    assert_eq!(first.envelope().event_type.as_str(), "last");
}

/// Calls the shop and returns the status, the head in lower case, and the body.
async fn invoke(server: &RunningServer, query: &str, fields: &str) -> (u16, String, String) {
    let path = format!("/v1/agents/shop/invoke{query}");
    let (status, answer) = host::ask(server, &host::post(server, &path, fields, "1")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn a_reply_is_a_cloud_event_when_it_is_asked_for_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let (server, bus) = start(dir.path()).await;
    bus.handle("shop", |_: Request| async { Ok(json!({ "n": 1 })) })
        .await
        .unwrap();
    let (status, head, body) = invoke(&server, "", "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"n":1}"#), "{head}");
    assert!(!head.contains("\r\nce-"), "{head}");

    let (status, head, body) = invoke(&server, "?format=cloudevents-binary", "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"n":1}"#), "{head}");
    for field in [
        "content-type: application/json",
        "ce-specversion: 1.0",
        "ce-type: agent.response.final",
        "ce-source: /agents/",
        "ce-id: ",
        "ce-time: ",
    ] {
        assert!(head.contains(&format!("\r\n{field}")), "{field}: {head}");
    }

    let (status, head, body) = invoke(&server, "?format=cloudevents", "").await;
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("application/cloudevents+json"), "{head}");
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&event["data"], &event["specversion"], &event["type"]),
        (
            &json!({ "n": 1 }),
            &json!("1.0"),
            &json!("agent.response.final")
        )
    );
    assert_eq!(invoke(&server, "?format=xml", "").await.0, 400);
}

#[tokio::test]
async fn a_repeated_call_gets_the_same_event_and_a_reply_without_data_its_attributes() {
    let dir = tempfile::tempdir().unwrap();
    let (server, bus) = start(dir.path()).await;
    bus.handle("shop", |_: Request| async { Ok(()) })
        .await
        .unwrap();
    let id = |head: &str| {
        let field = head.lines().find(|field| field.starts_with("ce-id: "));
        field.unwrap().to_owned()
    };
    let (format, key) = ("?format=cloudevents-binary", "Idempotency-Key: k\r\n");
    let (status, first, body) = invoke(&server, format, key).await;
    assert_eq!((status, body.as_str()), (204, ""), "{first}");
    let (_, again, _) = invoke(&server, format, key).await;
    assert_eq!(id(&first), id(&again));
    let (_, other, _) = invoke(&server, format, "").await;
    assert_ne!(id(&first), id(&other));
    let (status, head, _) = invoke(&server, "?format=cloudevents", key).await;
    assert_eq!(status, 422, "another answer was asked for: {head}");
}

#[tokio::test]
async fn a_stream_of_events_has_no_binary_mode_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _bus) = start(dir.path()).await;
    let host = server.local_addr();
    let request = format!(
        "GET /v1/events?format=cloudevents-binary HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    );
    let (status, answer) = host::ask(&server, &request).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("`envelope` or `cloudevents`"), "{answer}");
}
