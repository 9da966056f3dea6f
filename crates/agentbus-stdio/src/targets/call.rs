//! One request of the bus as one JSON-RPC call of a worker.

use std::sync::Arc;

use agentbus::{Error, Payload, Request, StreamWriter};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::chunks::Chunks;
use super::{Served, refusal};
use crate::codes::Fault;
use crate::{Answer, Call, CallError, CallEvent, CallStream, Pools};

/// The members of a payload that is a JSON-RPC message.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(rename = "sessionId")]
    session: Option<String>,
    #[serde(borrow, rename = "agentId")]
    agent: Option<&'a RawValue>,
    #[serde(borrow, rename = "_ext")]
    extensions: Option<&'a RawValue>,
}

/// Serves one request. Dropping it gives the call up, of which the worker is told.
pub(super) async fn run(
    served: Arc<Served>,
    request: Request,
    out: StreamWriter,
) -> Result<(), Error> {
    let pools = served.pools()?;
    let call = translate(&served, &request)?;
    let mut events = open(&pools, &served.name, &call).await?;
    let mut chunks = Chunks::default();
    while let Some(event) = events.next().await {
        match event.map_err(refusal::of_bus)? {
            CallEvent::Notification(line) => {
                chunks.hear(&line);
                out.delta_payload(Payload::from_bytes(&line)?).await?;
            }
            CallEvent::Request(line) => {
                events
                    .respond(&unanswerable(&line))
                    .map_err(refusal::of_bus)?;
                out.delta_payload(Payload::from_bytes(&line)?).await?;
            }
            CallEvent::Final(answer) => return finish(&answer, &chunks, &out).await,
        }
    }
    Err(refusal::of_bus(CallError::Bus(Fault::ShuttingDown)))
}

async fn finish(answer: &Answer, chunks: &Chunks, out: &StreamWriter) -> Result<(), Error> {
    if let Some(error) = answer.error() {
        return Err(refusal::of_worker(error));
    }
    let result = chunks.complete(answer.result().unwrap_or("null"));
    // The bus does not look into what it moves, so it is here that a result is found to be no JSON.
    let result = Payload::from_bytes(&Bytes::from(result))
        .map_err(|_| refusal::of_bus(CallError::Unreadable))?;
    out.finish_payload(result).await
}

/// Sends the call, once a worker has room for it.
async fn open(pools: &Pools, pool: &str, call: &Call) -> Result<CallStream, Error> {
    loop {
        match pools.call(call) {
            Err(CallError::Bus(Fault::QueueFull)) => pools.room(pool).await,
            Err(error) => return Err(refusal::of_bus(error)),
            Ok(stream) => return Ok(stream),
        }
    }
}

/// Makes a call of a payload: a message with a method, or the params of the pool's own method.
fn translate(served: &Served, request: &Request) -> Result<Call, Error> {
    let payload = request.payload().map_or("{}", Payload::as_str);
    let message: Option<Message<'_>> = serde_json::from_str(payload).ok();
    let call = match (message, &served.method) {
        (Some(message), _) if message.method.is_some() => of_message(message),
        (_, Some(method)) => called(method, Some(payload)),
        (_, None) => {
            let name = &served.name;
            return Err(Error::invalid_request(format!(
                "say which method of `{name}` to call: send {{\"method\":…,\"params\":…}}, or set \
                 `method` of the pool for payloads that are only params"
            )));
        }
    };
    let call = call.pool(&served.name);
    Ok(match session(request) {
        Some(session) => call.session(session),
        None => call,
    })
}

fn of_message(message: Message<'_>) -> Call {
    let method = message.method.unwrap_or_default();
    let mut call = called(&method, message.params.map(RawValue::get));
    for (name, value) in [("agentId", message.agent), ("_ext", message.extensions)] {
        if let Some(value) = value {
            call = call.member(name, value.get());
        }
    }
    match message.session {
        Some(session) => call.session(session),
        None => call,
    }
}

/// Calls a method and knows how its protocol takes a call back.
fn called(method: &str, params: Option<&str>) -> Call {
    let call = Call::new(method);
    let call = match params {
        Some(params) => call.params(params),
        None => call,
    };
    match params
        .and_then(prompted)
        .filter(|_| method == "session/prompt")
    {
        // An ACP agent is told which session to stop at.
        Some(session) => {
            let params = json!({ "sessionId": session });
            let line = json!({ "jsonrpc": "2.0", "method": "session/cancel", "params": params });
            call.on_give_up(line.to_string())
        }
        // An MCP server is told which request. Whoever knows neither ignores a notification.
        None => call.cancel_with("notifications/cancelled", "requestId"),
    }
}

/// Returns the session that an ACP prompt names in its params.
fn prompted(params: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Prompt {
        #[serde(rename = "sessionId")]
        session: String,
    }
    serde_json::from_str::<Prompt>(params)
        .ok()
        .map(|prompt| prompt.session)
}

/// The session of the envelope, apart for each tenant: two may use the same name.
fn session(request: &Request) -> Option<String> {
    let context = &request.envelope().context;
    match (context.tenant_id.as_str(), context.session_id.as_str()) {
        (_, "") => None,
        ("", session) => Some(session.to_owned()),
        (tenant, session) => Some(format!("{tenant}/{session}")),
    }
}

/// What a worker hears that asks a caller who cannot answer.
fn unanswerable(line: &[u8]) -> Vec<u8> {
    let id = agentbus_protocol::jsonrpc::scan(line)
        .ok()
        .and_then(|routing| routing.id_span());
    let id = id.map_or(&b"null"[..], |span| &line[span]);
    let mut answer = Vec::new();
    crate::codes::write_error(&mut answer, id, Fault::NoClient, serde_json::Map::new());
    answer
}
