//! Spans: one trace from the caller to the last handler, told to whoever collects them.
#![allow(clippy::unwrap_used, reason = "a failing step should say where")]

use std::collections::BTreeMap;
use std::sync::Arc;

use agentbus::contract::{Collected, check_child};
use agentbus::protocol::TraceParent;
use agentbus::telemetry::{Span, SpanKind};
use agentbus::transport::MemoryTransport;
use agentbus::{Bus, Error, EventId, Request, middleware};
use serde_json::json;
use tokio::sync::mpsc;

async fn bus(layered: bool) -> (Bus, Arc<Collected>) {
    let spans = Arc::new(Collected::default());
    let builder = Bus::builder("office")
        .transport_instance(Arc::new(MemoryTransport::new()))
        .spans(Arc::<Collected>::clone(&spans));
    let bus = match layered {
        true => builder.layer(middleware::Trace).connect().await.unwrap(),
        false => builder.connect().await.unwrap(),
    };
    (bus, spans)
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|(name, _)| *name == key);
    found.map(|(_, value)| value.clone())
}

#[tokio::test]
async fn a_call_its_handler_and_what_that_calls_are_one_trace() {
    for layered in [false, true] {
        let (bus, spans) = bus(layered).await;
        bus.handle("worker", |_| async { Ok(()) }).await.unwrap();
        let planner = |request: Request| async move {
            request.bus().invoke("worker", &json!({})).await?;
            request.bus().publish("plan.made", &json!({})).await?;
            Ok(())
        };
        bus.handle("planner", planner).await.unwrap();
        let root = TraceParent::new(7, 9);
        let call = bus.invoke("planner", &json!({ "n": 1 }));
        call.session("s1").traceparent(root.text()).await.unwrap();

        let outer = spans.named("invoke_agent planner");
        assert_eq!(outer.kind, SpanKind::Client);
        assert_eq!(outer.parent, Some(root));
        assert_eq!(outer.context.raw_trace_id(), 7);
        assert!(outer.ended >= outer.started);
        let subject = attribute(&outer, "messaging.destination.name");
        assert_eq!(subject.as_deref(), Some("acp.v1.invoke.planner"));
        let session = attribute(&outer, "gen_ai.conversation.id");
        assert_eq!(session.as_deref(), Some("s1"));
        let handled = spans.named("process planner");
        assert_eq!(handled.kind, SpanKind::Consumer);
        check_child(&handled, &outer);
        let inner = spans.named("invoke_agent worker");
        check_child(&inner, &handled);
        check_child(&spans.named("process worker"), &inner);
        check_child(&spans.named("send plan.made"), &handled);
    }
}

#[tokio::test]
async fn an_event_is_sent_and_processed() {
    let (bus, spans) = bus(false).await;
    bus.on("order.*", |_| async { Ok(()) }).await.unwrap();
    bus.publish("order.paid", &json!({}))
        .confirm()
        .await
        .unwrap();
    let sent = spans.soon("send order.paid").await;
    assert_eq!(sent.kind, SpanKind::Producer);
    check_child(&spans.soon("process order.*").await, &sent);
}

/// A span has these attributes beside those of every span, and no others.
fn check_attributes(span: &Span, id: &str, own: &[(&str, &str)]) {
    let common = [
        ("messaging.system", "agentbus"),
        ("messaging.message.id", id),
        ("messaging.message.body.size", "7"),
    ];
    let expected: BTreeMap<_, _> = common.into_iter().chain(own.iter().copied()).collect();
    let told = span.attributes.iter();
    let told: BTreeMap<_, _> = told.map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(told, expected, "{}", span.name);
    assert_eq!(span.attributes.len(), told.len(), "none is told twice");
}

#[tokio::test]
async fn both_ends_of_a_call_tell_all_that_the_conventions_name() {
    let (bus, spans) = bus(false).await;
    let told = |request: Request| async move {
        Ok::<_, Error>(json!(request.envelope().event_id.to_string()))
    };
    bus.handle("worker", told).queue("night").await.unwrap();
    let task = EventId::v7(1, &[7; 10]);
    let call = bus.invoke("worker", &json!({ "n": 1 }));
    let call = call.session("s1").correlation_id(task.clone());
    let reply = call.await.unwrap();
    let id: String = reply.payload.unwrap().decode().unwrap();
    let task = task.to_string();
    let shared = [
        ("messaging.destination.name", "acp.v1.invoke.worker"),
        ("messaging.message.conversation_id", task.as_str()),
        ("gen_ai.conversation.id", "s1"),
        ("gen_ai.agent.name", "worker"),
    ];
    let caller = [
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("gen_ai.operation.name", "invoke_agent"),
    ];
    let span = spans.soon("invoke_agent worker").await;
    check_attributes(&span, &id, &[&shared[..], &caller[..]].concat());
    let handler = [
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.consumer.group.name", "night"),
    ];
    let span = spans.soon("process worker").await;
    check_attributes(&span, &id, &[&shared[..], &handler[..]].concat());
}

#[tokio::test]
async fn both_ends_of_an_event_tell_all_that_the_conventions_name() {
    let (bus, spans) = bus(false).await;
    let (heard, mut ids) = mpsc::unbounded_channel();
    let hear = move |request: Request| {
        heard.send(request.envelope().event_id.to_string()).unwrap();
        async { Ok(()) }
    };
    bus.on("order.*", hear).queue("billing").await.unwrap();
    bus.publish("order.paid", &json!({ "n": 1 })).await.unwrap();
    let id = ids.recv().await.unwrap();
    let place = ("messaging.destination.name", "acp.v1.events.order.paid");
    let sender = [
        place,
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
    ];
    check_attributes(&spans.soon("send order.paid").await, &id, &sender);
    let handler = [
        place,
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.consumer.group.name", "billing"),
    ];
    check_attributes(&spans.soon("process order.*").await, &id, &handler);
}

#[tokio::test]
async fn a_failure_names_its_code() {
    let (bus, spans) = bus(false).await;
    bus.handle("broken", |_| async {
        Err::<(), _>(Error::Setup("no".to_owned()))
    })
    .await
    .unwrap();
    bus.invoke("broken", &json!({})).await.unwrap_err();
    bus.invoke("nobody", &json!({})).await.unwrap_err();
    for (name, kind) in [
        ("process broken", "INVALID_REQUEST"),
        ("invoke_agent broken", "INVALID_REQUEST"),
        ("invoke_agent nobody", "NO_HANDLER"),
    ] {
        assert_eq!(spans.soon(name).await.failure.unwrap().kind, kind, "{name}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_last_frame_and_one_that_is_dropped_is_cancelled() {
    let (bus, spans) = bus(false).await;
    bus.handle_stream("count", |_, out| async move {
        out.delta(&json!({ "n": 1 })).await?;
        out.finish(&json!({})).await
    })
    .await
    .unwrap();
    bus.handle_stream("endless", |_, _| {
        std::future::pending::<Result<(), Error>>()
    })
    .await
    .unwrap();
    let mut frames = bus.stream("count", &json!({})).await.unwrap();
    while let Some(frame) = frames.next().await {
        frame.unwrap();
    }
    assert_eq!(spans.named("invoke_agent count").failure, None);
    drop(bus.stream("endless", &json!({})).await.unwrap());
    let gone = spans.soon("invoke_agent endless").await;
    assert_eq!(gone.failure.unwrap().kind, "CANCELLED");
    let stopped = spans.soon("process endless").await;
    assert_eq!(stopped.failure.unwrap().kind, "CANCELLED");
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_is_continued_and_not_told() {
    let (bus, spans) = bus(false).await;
    let seen = |request: Request| async move {
        Ok(json!(request.envelope().context.traceparent.as_str()))
    };
    bus.handle("echo", seen).await.unwrap();
    let quiet = "00-0000000000000000000000000000000a-0000000000000001-00";
    let reply = bus.invoke("echo", &json!({})).traceparent(quiet).await;
    let there: String = reply.unwrap().payload.unwrap().decode().unwrap();
    assert!(there.starts_with("00-0000000000000000000000000000000a-"));
    assert!(there.ends_with("-00"));
    assert!(spans.is_empty());
}
