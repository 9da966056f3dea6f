//! Running one call: the questions it asks, its cancellation, and its answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentbus::protocol::TraceParent;
use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, GetPromptRequestParams, GetPromptResponse,
    InputRequest, InputRequiredResult, ReadResourceRequestParams, ReadResourceResponse,
};
use rmcp::service::RequestContext;
use serde_json::{Map, Value, json};

use super::client::Remote;
use super::convert;
use super::handler::{Handler, is_modern};
use super::seal::{Purpose, State};
use super::spans::{self, Answered, Method};
use crate::ask::Exchange;
use crate::call::CallParts;
use crate::{Ability, Ask, Call, Fault, Reply};

/// Counts the calls that are running.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<AtomicUsize>);

impl Running {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self) -> Run {
        self.0.fetch_add(1, Ordering::AcqRel);
        Run(self.clone())
    }
}

pub(super) struct Run(Running);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How a call came out.
enum Outcome<T> {
    Done(T),
    /// The client answers these, and calls again.
    Asks(InputRequiredResult),
}

/// What a request brings from the call before it.
struct Brought {
    method: Method,
    /// The tool, prompt or resource.
    name: String,
    answers: Option<BTreeMap<String, Value>>,
    state: Option<String>,
}

pub(super) async fn tool(
    handler: &Handler,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, Fault> {
    let Some(entry) = handler.shared.catalog.tool(&request.name) else {
        let span = spans::begin(handler, &context, Method::UnknownTool, &request.name);
        let answer = unknown(&request.name, is_modern(&context));
        spans::end_unknown(span, Method::UnknownTool, answer.as_ref().err());
        return Ok(convert::reply(answer?).into());
    };
    let arguments = request.arguments.unwrap_or_default();
    let brought = Brought {
        method: Method::Tool,
        name: request.name.to_string(),
        answers: request.input_responses,
        state: request.request_state,
    };
    let visitor = handler.visitor(&context);
    let purpose = Purpose::new(
        &visitor.principal,
        "tools/call",
        &request.name,
        Some(&arguments),
    );
    let outcome = run(handler, &context, brought, &purpose, |call| async move {
        entry.call(call, arguments).await
    });
    Ok(match outcome.await? {
        Outcome::Done(reply) => convert::reply(reply).into(),
        Outcome::Asks(asks) => asks.into(),
    })
}

/// What is said of a tool that there is not: an answer, as clients of AgentChatBus know it, and a
/// fault where the revision demands one.
fn unknown(name: &str, modern: bool) -> Result<Reply, Fault> {
    if modern {
        return Err(Fault::Invalid(format!("Unknown tool: {name}")));
    }
    let value = json!({ "error": format!("Unknown tool: {name}") });
    Ok(Reply::text(value.to_string()))
}

pub(super) async fn prompt(
    handler: &Handler,
    request: GetPromptRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<GetPromptResponse, Fault> {
    let Some(entry) = handler.shared.catalog.prompt(&request.name) else {
        let span = spans::begin(handler, &context, Method::UnknownPrompt, &request.name);
        let fault = Fault::Invalid(format!("Unknown prompt: {}", request.name));
        spans::end_unknown(span, Method::UnknownPrompt, Some(&fault));
        return Err(fault);
    };
    let values = request.arguments.unwrap_or_default();
    let brought = Brought {
        method: Method::Prompt,
        name: request.name.clone(),
        answers: request.input_responses,
        state: request.request_state,
    };
    let visitor = handler.visitor(&context);
    let purpose = Purpose::new(
        &visitor.principal,
        "prompts/get",
        &request.name,
        Some(&values),
    );
    let values = texts(values);
    let outcome = run(handler, &context, brought, &purpose, |call| async move {
        entry.fill(call, values).await
    });
    Ok(match outcome.await? {
        Outcome::Done(filled) => convert::filled(filled).into(),
        Outcome::Asks(asks) => asks.into(),
    })
}

/// The values of a prompt's arguments are texts by the protocol.
pub(super) fn texts(values: Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    values
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect()
}

pub(super) async fn resource(
    handler: &Handler,
    request: ReadResourceRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<ReadResourceResponse, Fault> {
    let uri = request.uri;
    let Some((entry, values)) = handler.shared.catalog.resource(&uri) else {
        let span = spans::begin(handler, &context, Method::Resource, &uri);
        let fault = Fault::NoResource(uri);
        spans::end_unknown(span, Method::Resource, Some(&fault));
        return Err(fault);
    };
    let brought = Brought {
        method: Method::Resource,
        name: uri.clone(),
        answers: request.input_responses,
        state: request.request_state,
    };
    let visitor = handler.visitor(&context);
    let purpose = Purpose::new(&visitor.principal, "resources/read", &uri, None);
    let outcome = run(handler, &context, brought, &purpose, |call| async move {
        entry.read(call, uri, values).await
    });
    Ok(match outcome.await? {
        Outcome::Done(documents) => convert::documents(documents).into(),
        Outcome::Asks(asks) => asks.into(),
    })
}

/// Runs a call within its span.
async fn run<T, F>(
    handler: &Handler,
    context: &RequestContext<RoleServer>,
    brought: Brought,
    purpose: &Purpose,
    work: impl FnOnce(Call) -> F,
) -> Result<Outcome<T>, Fault>
where
    T: Answered,
    F: Future<Output = Result<T, Fault>>,
{
    let _running = handler.shared.running.begin();
    let span = spans::begin(handler, context, brought.method, &brought.name);
    let trace = span.context();
    let worked = work_in(handler, context, (brought, trace), purpose, work).await;
    let outcome = match &worked {
        Ok(Outcome::Done(answer)) => Ok(answer.is_failure()),
        // Its client calls again, and that is a request of its own.
        Ok(Outcome::Asks(_)) => Ok(false),
        Err(fault) => Err(fault),
    };
    spans::end(span, outcome);
    worked
}

async fn work_in<T, F>(
    handler: &Handler,
    context: &RequestContext<RoleServer>,
    (brought, trace): (Brought, Option<TraceParent>),
    purpose: &Purpose,
    work: impl FnOnce(Call) -> F,
) -> Result<Outcome<T>, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let resumed = brought.state.is_some();
    let name = brought.name.clone();
    let answers = answers(handler, brought, purpose)?;
    let modern = is_modern(context);
    let call = Call::new(CallParts {
        client: Arc::new(Remote::new(context, handler.log_level(context), !modern)),
        visitor: handler.visitor(context),
        session: Arc::clone(&handler.session),
        cancelled: context.ct.clone(),
        stopping: handler.shared.stopping.clone(),
        answers,
        resumed,
        trace,
        name,
        board: handler.shared.board.clone(),
    });
    let worked = tokio::select! {
        worked = work(call.clone()) => worked,
        () = context.ct.cancelled() => Err(Fault::Cancelled),
    };
    match worked {
        Ok(done) => Ok(Outcome::Done(done)),
        Err(Fault::Unanswered) => asks(handler, call.into_exchange(), purpose).map(Outcome::Asks),
        Err(fault) => Err(fault),
    }
}

/// The answers from before, and those that the client brings to what it was asked.
fn answers(
    handler: &Handler,
    brought: Brought,
    purpose: &Purpose,
) -> Result<BTreeMap<String, Value>, Fault> {
    let new = brought.answers.unwrap_or_default();
    let Some(sealed) = brought.state else {
        return Ok(new);
    };
    let State { mut answers, asked } = handler.shared.seal.open(&sealed, purpose)?;
    answers.extend(new.into_iter().filter(|(key, _)| asked.contains(key)));
    Ok(answers)
}

fn asks(
    handler: &Handler,
    exchange: Exchange,
    purpose: &Purpose,
) -> Result<InputRequiredResult, Fault> {
    let asked = exchange.open.keys().cloned().collect();
    let requests = exchange.open.into_iter().map(|(key, ask)| {
        let request = input_request(&ask)?;
        Ok((key, request))
    });
    let requests = requests.collect::<Result<BTreeMap<_, _>, Fault>>()?;
    let answers = exchange.answers;
    let state = handler
        .shared
        .seal
        .close(&State { answers, asked }, purpose)?;
    Ok(InputRequiredResult::new(Some(requests), Some(state)))
}

fn input_request(ask: &Ask) -> Result<InputRequest, Fault> {
    let method = match ask.ability {
        Ability::Elicitation => "elicitation/create",
        Ability::Sampling => "sampling/createMessage",
        Ability::Roots => "roots/list",
    };
    serde_json::from_value(json!({ "method": method, "params": ask.params }))
        .map_err(|error| Fault::Failed(format!("a question is not valid: {error}")))
}
