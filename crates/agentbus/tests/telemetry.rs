//! Spans: one trace from the caller to the last handler, told to whoever collects them.
#![allow(clippy::unwrap_used, reason = "a failing step should say where")]

use std::sync::Arc;
use std::time::Duration;

use agentbus::protocol::TraceParent;
use agentbus::telemetry::{Span, SpanKind, SpanSink};
use agentbus::transport::MemoryTransport;
use agentbus::{Bus, Error, Request, middleware};
use parking_lot::Mutex;
use serde_json::json;

#[derive(Debug, Default)]
struct Collected(Mutex<Vec<Span>>);

impl SpanSink for Collected {
    fn ended(&self, span: Span) {
        self.0.lock().push(span);
    }
}

impl Collected {
    fn named(&self, name: &str) -> Span {
        let spans = self.0.lock();
        let found = spans.iter().find(|span| span.name == name).cloned();
        found.unwrap_or_else(|| panic!("no span {name} among {:?}", names(&spans)))
    }

    async fn soon(&self, name: &str) -> Span {
        for _ in 0..500 {
            if self.0.lock().iter().any(|span| span.name == name) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.named(name)
    }
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

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

fn check_child(child: &Span, parent: &Span) {
    assert_eq!(child.context.raw_trace_id(), parent.context.raw_trace_id());
    assert_eq!(child.parent, Some(parent.context), "{}", child.name);
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
    assert!(spans.0.lock().is_empty());
}
