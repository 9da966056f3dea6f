//! A span for each call of a tool, each prompt and each resource that is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentbus::contract::{Collected, check_child};
use agentbus::protocol::TraceParent;
use agentbus::telemetry::{Span, SpanKind};
use agentbus::{Bus, Request};
use agentbus_mcp::limits::SPAN_TEXT_MAX;
use agentbus_mcp::{Call, Fault, Reply, Tool};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::line::Client;

const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
const QUIET: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00";

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// A client of a bus that tells its spans, with an agent `seen` that answers with the trace context
/// in which it was called, and a tool `broken` that fails.
async fn client() -> (Client, Arc<Collected>) {
    let spans = Arc::new(Collected::default());
    let bus = Bus::builder("test").spans(Arc::<Collected>::clone(&spans));
    let bus = bus.connect().await.unwrap();
    bus.handle("seen", |request: Request| async move {
        Ok(json!(request.envelope().context.traceparent.as_str()))
    })
    .await
    .unwrap();
    let broken = |_: Call, _: Nothing| async { Err::<Reply, _>(Fault::failed("no")) };
    let client = Client::start_on(
        bus,
        |config, _| {
            let about = Tool::new("broken", "Fails.");
            config.catalog.add_tool(about, broken).unwrap();
        },
        json!({}),
    );
    (client.await, spans)
}

/// Calls the agent with the tool, under a trace context; the tool's answer.
async fn invoke(client: &mut Client, target: &str, meta: Value) -> Value {
    let arguments = json!({ "target": target });
    let params = json!({ "name": "agent_invoke", "arguments": arguments, "_meta": meta });
    client.request("tools/call", params).await["result"].take()
}

/// A span has these attributes beside those of every span here, and no others.
fn check_attributes(span: &Span, own: &[(&str, &str)]) {
    let common = [
        ("mcp.protocol.version", "2025-11-25"),
        ("jsonrpc.request.id", "2"),
        ("network.transport", "pipe"),
    ];
    let expected: BTreeMap<_, _> = common.into_iter().chain(own.iter().copied()).collect();
    let told = span.attributes.iter();
    let told: BTreeMap<_, _> = told.map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(told, expected, "{}", span.name);
    assert_eq!(span.kind, SpanKind::Server);
}

#[tokio::test]
async fn a_call_is_below_the_span_of_its_client_and_above_what_it_calls() {
    let (mut client, spans) = client().await;
    invoke(&mut client, "seen", json!({ "traceparent": THEIRS })).await;
    let tool = spans.soon("tools/call agent_invoke").await;
    assert_eq!(tool.parent, TraceParent::parse(THEIRS));
    assert_eq!(tool.failure, None);
    assert_eq!(tool.link, None);
    let call = spans.soon("invoke_agent seen").await;
    check_child(&call, &tool);
    check_child(&spans.soon("process seen").await, &call);
    let own = [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.operation.name", "execute_tool"),
        ("gen_ai.tool.name", "agent_invoke"),
    ];
    check_attributes(&tool, &own);
}

#[tokio::test]
async fn a_call_without_a_trace_begins_one() {
    let (mut client, spans) = client().await;
    invoke(&mut client, "seen", json!({})).await;
    let tool = spans.soon("tools/call agent_invoke").await;
    assert_eq!(tool.parent, None);
    check_child(&spans.soon("invoke_agent seen").await, &tool);
}

#[tokio::test]
async fn a_trace_that_is_not_to_be_recorded_goes_on_untold() {
    let (mut client, spans) = client().await;
    let result = invoke(&mut client, "seen", json!({ "traceparent": QUIET })).await;
    let there = Client::text(&result)["reply"].take();
    let there = TraceParent::parse(there.as_str().unwrap()).unwrap();
    let theirs = TraceParent::parse(QUIET).unwrap();
    assert_eq!(there.raw_trace_id(), theirs.raw_trace_id());
    assert!(!there.is_sampled());
    assert!(spans.is_empty());
}

#[tokio::test]
async fn a_failure_says_whether_it_was_the_tool_or_the_call() {
    let (mut client, spans) = client().await;
    invoke(&mut client, "nobody", json!({})).await;
    let failed = spans.soon("tools/call agent_invoke").await;
    assert_eq!(failed.failure.unwrap().kind, "tool_error");
    client.call("broken", json!({})).await;
    let broken = spans.soon("tools/call broken").await;
    assert_eq!(broken.failure.unwrap().kind, "-32603");
    let code = ("rpc.response.status_code", "-32603".to_owned());
    assert!(broken.attributes.contains(&code), "{:?}", broken.attributes);
}

#[tokio::test]
async fn a_tool_that_there_is_not_names_no_span() {
    let (mut client, spans) = client().await;
    let asked = json!({ "name": "nope", "arguments": {}, "_meta": { "traceparent": THEIRS } });
    let answer = client.request("tools/call", asked).await;
    assert_eq!(
        Client::text(&answer["result"])["error"],
        "Unknown tool: nope"
    );
    let unknown = spans.soon("tools/call").await;
    assert_eq!(unknown.parent, TraceParent::parse(THEIRS));
    let own = [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.operation.name", "execute_tool"),
        ("gen_ai.tool.name", "nope"),
    ];
    check_attributes(&unknown, &own);
    let failure = unknown.failure.unwrap();
    assert_eq!(failure.kind, "tool_error");
    assert_eq!(failure.message, "there is no tool of this name");
}

/// A request for what there is not has a span that is called as its method, whatever a client makes
/// up, and tells no more of that than of other texts.
async fn check_unknown(method: &str, (field, key): (&str, &str), message: &str) {
    let (mut client, spans) = client().await;
    let made_up = "x".repeat(SPAN_TEXT_MAX + 1);
    let asked = json!({ field: made_up, "_meta": { "traceparent": THEIRS } });
    let answer = client.request(method, asked).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    let unknown = spans.soon(method).await;
    assert_eq!(unknown.parent, TraceParent::parse(THEIRS));
    let own = [
        ("mcp.method.name", method),
        (key, &made_up[..SPAN_TEXT_MAX]),
        ("rpc.response.status_code", "-32602"),
    ];
    check_attributes(&unknown, &own);
    let failure = unknown.failure.unwrap();
    assert_eq!(failure.kind, "-32602");
    assert_eq!(failure.message, message);
}

#[tokio::test]
async fn a_prompt_that_there_is_not_names_no_span() {
    let fields = ("name", "gen_ai.prompt.name");
    check_unknown("prompts/get", fields, "there is no prompt of this name").await;
}

#[tokio::test]
async fn a_resource_that_there_is_not_names_no_span() {
    let fields = ("uri", "mcp.resource.uri");
    let message = "there is no resource of this URI";
    check_unknown("resources/read", fields, message).await;
}

#[tokio::test]
async fn a_prompt_and_a_resource_have_spans_too() {
    let (mut client, spans) = self::client().await;
    let wrong = json!({ "name": "handoff_to_agent", "arguments": {} });
    client.request("prompts/get", wrong).await;
    let prompt = spans.soon("prompts/get handoff_to_agent").await;
    let own = [
        ("mcp.method.name", "prompts/get"),
        ("gen_ai.prompt.name", "handoff_to_agent"),
        ("rpc.response.status_code", "-32602"),
    ];
    check_attributes(&prompt, &own);
    assert_eq!(prompt.failure.unwrap().kind, "-32602");
    let (mut client, spans) = self::client().await;
    let asked = json!({ "uri": "chat://bus/config" });
    client.request("resources/read", asked).await;
    let resource = spans.soon("resources/read").await;
    let own = [
        ("mcp.method.name", "resources/read"),
        ("mcp.resource.uri", "chat://bus/config"),
    ];
    check_attributes(&resource, &own);
    assert_eq!(resource.failure, None);
}
