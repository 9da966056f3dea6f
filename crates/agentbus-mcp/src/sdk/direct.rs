//! Requests that come alone, over plain HTTP, in words of their own.
//!
//! Nothing is remembered from one to the next, and its client can be asked nothing. The answers
//! have the blocks and lists of the protocol, without its envelope.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use agentbus::protocol::TraceParent;
use agentbus_chat::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::handler::Shared;
use super::spans::{self, Answered, Method};
use super::{convert, run};
use crate::call::{CallParts, Client};
use crate::{Ability, Ask, Call, Content, Fault, LogLevel, Profile, Reply, Session, Visitor};

/// The methods that such a request may name.
const METHODS: [&str; 8] = [
    "ping",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "prompts/list",
    "prompts/get",
];

/// A client that waits for its answer and does nothing else.
struct Waiting;

impl Client for Waiting {
    fn can(&self, _: Ability) -> bool {
        false
    }

    fn progress(&self, _: f64, _: Option<f64>, _: Option<String>) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn log(&self, _: LogLevel, _: Value) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn asks_in_between(&self) -> bool {
        true
    }

    fn request(&self, ask: Ask, _: CancellationToken) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(ready(Err(Fault::Unable(ask.ability))))
    }
}

/// Calls a tool; its blocks. What the caller can put right is a fault here.
pub(crate) async fn call(
    shared: &Shared,
    visitor: Visitor,
    name: &str,
    arguments: Map<String, Value>,
) -> Result<Value, Fault> {
    let Some(entry) = shared.catalog.tool(name) else {
        let fault = Fault::Invalid(format!("Unknown tool: {name}"));
        return Err(unknown(
            shared,
            &visitor,
            (Method::UnknownTool, name),
            fault,
        ));
    };
    let _running = shared.running.begin();
    let work = |call: Call| async move { entry.call(call, arguments).await };
    let mut reply = spanned(shared, visitor, (Method::Tool, name), work).await?;
    if reply.is_error {
        // What a tool has found out is an answer; a fault without data is one of the arguments.
        let Some(data) = reply.structured.take() else {
            return Err(Fault::Invalid(text(&reply)));
        };
        reply.content.push(Content::text(data.to_string()));
    }
    written(convert::reply(reply).content)
}

/// Answers a request; what the protocol calls its result, and of tools only what is in it.
pub(crate) async fn request(
    shared: &Shared,
    visitor: Visitor,
    method: &str,
    params: Map<String, Value>,
) -> Result<Value, Fault> {
    let meta = params.get("_meta").and_then(|meta| meta.get("traceparent"));
    let visitor = Visitor {
        trace: spans::trace_of(meta.and_then(Value::as_str)).or(visitor.trace),
        ..visitor
    };
    match method {
        "ping" => Ok(json!({})),
        "tools/list" => tools(shared, visitor.profile),
        "tools/call" => {
            let name = named(&params, "name")?;
            call(shared, visitor, &name, arguments(params)?).await
        }
        "resources/list" => resources(shared).await,
        "resources/templates/list" => templates(shared),
        "resources/read" => read(shared, visitor, named(&params, "uri")?).await,
        "prompts/list" => prompts(shared),
        "prompts/get" => {
            let name = named(&params, "name")?;
            fill(shared, visitor, &name, arguments(params)?).await
        }
        other => {
            let (other, known) = (other.chars().take(100), METHODS.join(", "));
            let other: String = other.collect();
            Err(Fault::Invalid(format!(
                "`{other}` is not answered without a session; there are {known}; open a session \
                 at /mcp for the others"
            )))
        }
    }
}

/// Does the work of a call within its span.
async fn spanned<T, F>(
    shared: &Shared,
    visitor: Visitor,
    (method, name): (Method, &str),
    work: impl FnOnce(Call) -> F,
) -> Result<T, Fault>
where
    T: Answered,
    F: Future<Output = Result<T, Fault>>,
{
    let span = spans::alone(shared, &visitor, method, name);
    let worked = work(opened(shared, visitor, name, span.context())).await;
    spans::end(span, worked.as_ref().map(Answered::is_failure));
    worked
}

/// Tells of a request for what there is not; the fault that its caller hears.
fn unknown(
    shared: &Shared,
    visitor: &Visitor,
    (method, name): (Method, &str),
    fault: Fault,
) -> Fault {
    let span = spans::alone(shared, visitor, method, name);
    spans::end_unknown(span, method, Some(&fault));
    fault
}

fn opened(shared: &Shared, visitor: Visitor, name: &str, trace: Option<TraceParent>) -> Call {
    Call::new(CallParts {
        client: Arc::new(Waiting),
        visitor,
        session: Arc::<Session>::default(),
        cancelled: CancellationToken::new(),
        stopping: shared.stopping.clone(),
        answers: BTreeMap::new(),
        resumed: false,
        trace,
        name: name.to_owned(),
        board: shared.board.clone(),
    })
}

fn tools(shared: &Shared, profile: Profile) -> Result<Value, Fault> {
    let tools = shared.catalog.tools();
    let listed = tools
        .iter()
        .filter(|entry| profile == Profile::Full || entry.about.profile == Profile::Core);
    written(listed.map(|entry| convert::tool(entry)).collect::<Vec<_>>())
}

async fn resources(shared: &Shared) -> Result<Value, Fault> {
    let mut listed = Vec::new();
    for entry in shared.catalog.resources() {
        listed.extend(entry.listed().await?.iter().map(convert::resource));
    }
    Ok(json!({ "resources": written(listed)? }))
}

fn templates(shared: &Shared) -> Result<Value, Fault> {
    let resources = shared.catalog.resources();
    let listed = resources.iter().filter(|entry| entry.about.is_template());
    let listed: Vec<_> = listed
        .map(|entry| convert::template(&entry.about))
        .collect();
    Ok(json!({ "resourceTemplates": written(listed)? }))
}

async fn read(shared: &Shared, visitor: Visitor, uri: String) -> Result<Value, Fault> {
    let Some((entry, values)) = shared.catalog.resource(&uri) else {
        let fault = Fault::NoResource(uri.clone());
        return Err(unknown(shared, &visitor, (Method::Resource, &uri), fault));
    };
    let _running = shared.running.begin();
    let name = uri.clone();
    let work = |call: Call| async move { entry.read(call, uri, values).await };
    let documents = spanned(shared, visitor, (Method::Resource, &name), work).await?;
    written(convert::documents(documents))
}

fn prompts(shared: &Shared) -> Result<Value, Fault> {
    let prompts = shared.catalog.prompts();
    let listed: Vec<_> = prompts.iter().map(|entry| convert::prompt(entry)).collect();
    Ok(json!({ "prompts": written(listed)? }))
}

async fn fill(
    shared: &Shared,
    visitor: Visitor,
    name: &str,
    values: Map<String, Value>,
) -> Result<Value, Fault> {
    let Some(entry) = shared.catalog.prompt(name) else {
        let fault = Fault::Invalid(format!("Unknown prompt: {name}"));
        return Err(unknown(
            shared,
            &visitor,
            (Method::UnknownPrompt, name),
            fault,
        ));
    };
    let _running = shared.running.begin();
    let work = |call: Call| async move { entry.fill(call, run::texts(values)).await };
    let filled = spanned(shared, visitor, (Method::Prompt, name), work).await?;
    written(convert::filled(filled))
}

/// A text among the params that must be there.
fn named(params: &Map<String, Value>, field: &str) -> Result<String, Fault> {
    let found = params.get(field).and_then(Value::as_str);
    let found = found.ok_or_else(|| Fault::Invalid(format!("params need `{field}`, a text")))?;
    Ok(found.to_owned())
}

fn arguments(mut params: Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    match params.remove("arguments") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(arguments)) => Ok(arguments),
        Some(_) => Err(Fault::invalid("`arguments` are an object")),
    }
}

fn text(reply: &Reply) -> String {
    let texts = reply.content.iter().filter_map(|block| match block {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn written(value: impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(value).map_err(Fault::failed)
}
