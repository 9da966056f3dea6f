//! The trace of a client goes on in what its calls cause.

use agentbus::protocol::TraceParent;
use agentbus::{Bus, Request};
use serde_json::{Value, json};

use crate::line::Client;

const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

/// A client, and the bus behind its gateway.
async fn client() -> (Client, Bus) {
    let mut behind = None;
    let client = Client::start_with(|_, bus| behind = Some(bus.clone()), json!({})).await;
    (client, behind.unwrap())
}

async fn call(client: &mut Client, tool: &str, arguments: Value, meta: Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let result = client.request("tools/call", params).await["result"].take();
    Client::text(&result)
}

/// The trace context in which an agent was called.
async fn seen(client: &mut Client, meta: Value) -> Option<TraceParent> {
    let called = call(client, "agent_invoke", json!({ "target": "seen" }), meta).await;
    TraceParent::parse(called["reply"].as_str().unwrap())
}

async fn serve(bus: &Bus) {
    bus.handle("seen", |request: Request| async move {
        Ok(json!(request.envelope().context.traceparent.as_str()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_agent_is_called_in_the_trace_of_the_client() {
    let (mut client, bus) = client().await;
    serve(&bus).await;
    let there = seen(&mut client, json!({ "traceparent": THEIRS })).await;
    let theirs = TraceParent::parse(THEIRS).unwrap();
    assert_eq!(there.unwrap().raw_trace_id(), theirs.raw_trace_id());
    assert!(there.unwrap().is_sampled());
    // The next call names none, and is not counted to the one before.
    let own = seen(&mut client, json!({})).await.unwrap();
    assert_ne!(own.raw_trace_id(), theirs.raw_trace_id());
}

#[tokio::test]
async fn a_trace_context_that_is_not_valid_is_ignored() {
    let (mut client, bus) = client().await;
    serve(&bus).await;
    for wrong in [
        json!(""),
        json!(7),
        json!("00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7"),
        json!("00-0AF7651916CD43DD8448EB211C80319C-00f067aa0ba902b7-01"),
        json!("ff-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"),
        json!("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
    ] {
        let own = seen(&mut client, json!({ "traceparent": wrong })).await;
        let own = own.unwrap_or_else(|| panic!("no trace in place of {wrong}"));
        let theirs = TraceParent::parse(THEIRS).unwrap();
        assert_ne!(own.raw_trace_id(), theirs.raw_trace_id(), "{wrong}");
    }
}

#[tokio::test]
async fn an_event_is_published_in_the_trace_of_the_client() {
    let (mut client, bus) = client().await;
    let mut events = bus.subscribe("order.*").await.unwrap();
    let event = json!({ "event_type": "order.paid", "payload": 1 });
    let meta = json!({ "traceparent": THEIRS });
    let done = call(&mut client, "event_publish", event, meta).await;
    assert_eq!(done, json!({ "ok": true }));
    let delivery = events.next().await.unwrap();
    let there = TraceParent::parse(&delivery.envelope().context.traceparent);
    let theirs = TraceParent::parse(THEIRS).unwrap();
    assert_eq!(there.unwrap().raw_trace_id(), theirs.raw_trace_id());
}
