//! Agents on the bus, called through tools.

use std::sync::Arc;
use std::time::Duration;

use agentbus::{Bus, Error, ErrorCode, Request, StreamWriter};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::line::Client;

/// Longest time that any step may take before the test has failed.
const GUARD: Duration = Duration::from_secs(60);

/// A client, and the bus on which the agents are that it calls.
async fn client() -> (Client, Bus) {
    let mut kept = None;
    let client = Client::start_with(|_, bus| kept = Some(bus.clone()), json!({})).await;
    (client, kept.unwrap())
}

/// Opens a stream: its id.
async fn open(client: &mut Client, target: &str) -> String {
    let asked = json!({ "target": target, "payload": "go", "stream": true });
    let opened = client.call("agent_invoke", asked).await;
    assert_eq!(opened["isError"], false, "{opened}");
    let id = &opened["structuredContent"]["stream_id"];
    id.as_str().unwrap().to_owned()
}

/// What a read brings: each frame as its type and its payload, and whether that was all.
async fn read(client: &mut Client, stream: &str, most: usize) -> (Vec<(String, Value)>, bool) {
    let asked = json!({ "stream_id": stream, "max_frames": most, "wait_ms": 60_000 });
    let result = client.call("agent_stream_read", asked).await;
    assert_eq!(result["isError"], false, "{result}");
    let data = &result["structuredContent"];
    let frames = data["frames"].as_array().unwrap().iter();
    let frames = frames.map(|frame| {
        let kind = frame["type"].as_str().unwrap().to_owned();
        (kind, frame["payload"].clone())
    });
    (frames.collect(), data["done"].as_bool().unwrap())
}

fn frame(kind: &str, payload: Value) -> (String, Value) {
    (kind.to_owned(), payload)
}

#[tokio::test]
async fn an_agent_answers() {
    let (mut client, bus) = client().await;
    let double = |request: Request| async move { Ok(json!(2 * request.json::<i64>()?)) };
    bus.handle("double", double).await.unwrap();
    let asked = json!({ "target": "double", "payload": 21 });
    let answer = client.call("agent_invoke", asked).await;
    assert_eq!(answer["isError"], false, "{answer}");
    assert_eq!(answer["structuredContent"], json!({ "reply": 42 }));
    assert_eq!(Client::text(&answer), json!({ "reply": 42 }));
}

#[tokio::test]
async fn an_agent_that_fails_and_one_that_is_not_there_are_told_apart() {
    let (mut client, bus) = client().await;
    let fail = |_: Request| async { Err::<Value, _>(Error::agent("out of paper")) };
    bus.handle("printer", fail).await.unwrap();
    for (target, stream, code, says) in [
        (
            "printer",
            false,
            ErrorCode::AgentUnavailable,
            "out of paper",
        ),
        ("nobody", false, ErrorCode::NoHandler, "nobody serves"),
        ("nobody", true, ErrorCode::NoHandler, "nobody serves"),
    ] {
        let asked = json!({ "target": target, "payload": {}, "stream": stream });
        let failed = client.call("agent_invoke", asked).await;
        assert_eq!(failed["isError"], true, "{failed}");
        assert_eq!(failed["structuredContent"]["code"], code.as_str());
        let text = failed["content"][0]["text"].as_str().unwrap();
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn a_stream_is_read_piece_by_piece_to_its_end() {
    let (mut client, bus) = client().await;
    let go = Arc::new(Notify::new());
    let held = Arc::clone(&go);
    let write = move |_: Request, out: StreamWriter| {
        let held = Arc::clone(&held);
        async move {
            out.started(&json!({ "model": "m" })).await?;
            out.delta(&json!("one")).await?;
            out.delta(&json!("two")).await?;
            held.notified().await;
            out.delta(&json!("three")).await?;
            out.finish(&json!({ "count": 3 })).await
        }
    };
    bus.handle_stream("writer", write).await.unwrap();
    let stream = open(&mut client, "writer").await;
    for expected in [
        frame("started", json!({ "model": "m" })),
        frame("delta", json!("one")),
        frame("delta", json!("two")),
    ] {
        assert_eq!(read(&mut client, &stream, 1).await, (vec![expected], false));
    }
    // Nothing is there, and nothing comes: a read that does not wait brings nothing.
    let hasty = json!({ "stream_id": stream, "wait_ms": 0 });
    let hasty = client.call("agent_stream_read", hasty).await;
    assert_eq!(
        hasty["structuredContent"],
        json!({ "frames": [], "done": false })
    );
    go.notify_one();
    let mut rest = Vec::new();
    let mut done = false;
    while !done {
        let (frames, last) = read(&mut client, &stream, 50).await;
        rest.extend(frames);
        done = last;
    }
    let expected = [
        frame("delta", json!("three")),
        frame("final", json!({ "count": 3 })),
    ];
    assert_eq!(rest, expected);
    let asked = json!({ "stream_id": stream });
    let gone = client.call("agent_stream_read", asked).await;
    assert_eq!(gone["isError"], true, "{gone}");
    let text = gone["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("there is no such stream"), "{text}");
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_what_the_agent_said() {
    let (mut client, bus) = client().await;
    let write = |_: Request, out: StreamWriter| async move {
        out.delta(&json!("one")).await?;
        Err::<(), _>(Error::agent("out of paper"))
    };
    bus.handle_stream("printer", write).await.unwrap();
    let stream = open(&mut client, "printer").await;
    let (first, done) = read(&mut client, &stream, 1).await;
    assert_eq!((first, done), (vec![frame("delta", json!("one"))], false));
    let (last, done) = read(&mut client, &stream, 50).await;
    assert!(done, "{last:?}");
    let [(kind, payload)] = &last[..] else {
        panic!("{last:?}");
    };
    assert_eq!(kind, "error");
    assert_eq!(payload["code"], ErrorCode::AgentUnavailable.as_str());
    assert_eq!(payload["message"], "out of paper");
}

/// Tells that whoever held it is gone.
struct Gone(mpsc::UnboundedSender<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_stream_that_is_given_up_stops_its_agent() {
    let (mut client, bus) = client().await;
    let (tell, mut gone) = mpsc::unbounded_channel();
    let write = move |_: Request, out: StreamWriter| {
        let gone = Gone(tell.clone());
        async move {
            let _gone = gone;
            out.delta(&json!("one")).await?;
            std::future::pending::<Result<(), Error>>().await
        }
    };
    bus.handle_stream("endless", write).await.unwrap();
    let stream = open(&mut client, "endless").await;
    read(&mut client, &stream, 1).await;
    let asked = json!({ "stream_id": stream, "cancel": true });
    let ended = client.call("agent_stream_read", asked).await;
    assert_eq!(
        ended["structuredContent"],
        json!({ "frames": [], "done": true })
    );
    let stopped = tokio::time::timeout(GUARD, gone.recv()).await;
    assert!(stopped.is_ok(), "the agent goes on for nobody");
}
