//! `agent_invoke` and `agent_stream_read`: calls of any agent on the bus.

use std::sync::Arc;
use std::time::Duration;

use agentbus::protocol::TraceParent;
use agentbus::{Context, ContextFields, Envelope, Error, Frames, Payload, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::handles::Open;
use super::{Services, tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool, limits};

#[derive(Debug, Deserialize, JsonSchema)]
struct Invoke {
    /// The name under which the agent is served.
    target: String,
    /// What it is asked: any JSON.
    payload: Option<Value>,
    /// Whether to open a stream of answers, to be read with `agent_stream_read`.
    #[serde(default)]
    stream: bool,
    /// How long the agent may take, in milliseconds.
    timeout_ms: Option<u64>,
    /// Calls with the same session reach the same worker.
    session_id: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Invoked {
    /// What the agent answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Value>,
    /// The stream to read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_id: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Read {
    /// The stream.
    stream_id: String,
    /// How long to wait for the first frame, in milliseconds; 10000 without it.
    wait_ms: Option<u64>,
    /// At most so many frames; 50 without it.
    max_frames: Option<usize>,
    /// Whether to give the stream up; the agent is told.
    #[serde(default)]
    cancel: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Frame {
    /// started, delta, final or error.
    r#type: String,
    payload: Option<Value>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ReadFrames {
    frames: Vec<Frame>,
    /// Whether that was all; the stream is closed then.
    done: bool,
}

/// How long a read waits, and how much it takes, without other wishes.
const READ_WAIT: Duration = Duration::from_secs(10);
const READ_FRAMES: usize = 50;

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new(
        "agent_invoke",
        "Call an agent on the bus, whatever protocol it speaks, and get its answer; or open a \
         stream of answers.",
    )
    .gives::<Invoked>()
    .open_world();
    tool!(catalog, services, about.extended(), invoke)?;
    let about = Tool::new(
        "agent_stream_read",
        "Read what an agent has sent on a stream that agent_invoke opened.",
    )
    .gives::<ReadFrames>();
    tool!(catalog, services, about.extended(), read)
}

async fn invoke(services: &Services, call: &Call, asked: Invoke) -> Result<Reply, Fault> {
    if is_reserved(call, &asked.target) {
        let text = format!("the target `{}` is for whoever runs the bus", asked.target);
        return Ok(Reply::error(text));
    }
    let payload = asked.payload.as_ref().map(Payload::json).transpose();
    let payload = payload.map_err(Fault::failed)?;
    let context = context(services, call, asked.session_id);
    let timeout = asked.timeout_ms.map(Duration::from_millis);
    if asked.stream {
        let mut stream = services
            .bus
            .stream_payload(asked.target, payload)
            .context(context);
        if let Some(timeout) = timeout {
            stream = stream.timeout(timeout);
        }
        return match stream.send().await {
            Ok(frames) => Ok(opened(services, call, frames)),
            Err(error) => Ok(failed(&error)),
        };
    }
    let invoke = services
        .bus
        .invoke_payload(asked.target, payload)
        .context(context)
        .timeout(timeout.unwrap_or(services.invoke_timeout));
    Ok(match invoke.send().await {
        Ok(envelope) => Reply::data(&Invoked {
            reply: Some(payload_of(&envelope).unwrap_or_default()),
            stream_id: None,
        }),
        Err(error) => failed(&error),
    })
}

/// Whether an agent that the bus drives asks for what operators do, such as ending its neighbours.
fn is_reserved(call: &Call, target: &str) -> bool {
    call.visitor().principal.as_agent().is_some() && target.starts_with("agentbus.")
}

fn opened(services: &Services, call: &Call, frames: Frames) -> Reply {
    let principal = &call.visitor().principal;
    match services
        .handles
        .keep(principal, Open::Stream(Box::new(frames)))
    {
        Some(id) => Reply::data(&Invoked {
            reply: None,
            stream_id: Some(id),
        }),
        None => full(),
    }
}

/// What is said when nothing more can be kept open.
pub(super) fn full() -> Reply {
    let limit = limits::HANDLES_MAX;
    Reply::error(format!(
        "there are {limit} open streams and subscriptions; close one, or try again later"
    ))
}

/// A failed call, for the model to read.
pub(super) fn failed(error: &Error) -> Reply {
    Reply::error(error.to_string()).with_data(told(error))
}

fn told(error: &Error) -> Value {
    json!({ "error": error.to_string(), "code": error.code().as_str(),
        "retryable": error.is_retryable() })
}

pub(super) fn payload_of(envelope: &Envelope) -> Option<Value> {
    serde_json::from_slice(envelope.payload.as_ref()?.as_bytes()).ok()
}

/// Whose targets and events the client means; empty for those of the bus.
pub(super) fn tenant(call: &Call) -> Text {
    call.visitor().tenant.clone().unwrap_or_default()
}

/// The trace that a call goes on with: that of its client, or else one of its own, so that
/// everything it causes can be found under one id.
fn trace(services: &Services, call: &Call) -> Text {
    let trace = call.trace().or_else(|| services.bus.begin_trace());
    trace.map(TraceParent::text).unwrap_or_default()
}

/// What a call or an event of this client says of itself.
pub(super) fn context(services: &Services, call: &Call, session: Option<String>) -> Context {
    ContextFields {
        tenant_id: tenant(call),
        session_id: session.unwrap_or_default().into(),
        traceparent: trace(services, call),
        ..ContextFields::default()
    }
    .into()
}

async fn read(services: &Services, call: &Call, asked: Read) -> Result<Reply, Fault> {
    let id = asked.stream_id.as_str();
    let unknown =
        || Reply::error("there is no such stream; it has ended, or it was not read for too long");
    let Some(shared) = services.handles.get(id, &call.visitor().principal) else {
        return Ok(unknown());
    };
    if asked.cancel {
        services.handles.drop(id);
        return Ok(Reply::data(&ReadFrames {
            frames: Vec::new(),
            done: true,
        }));
    }
    let Ok(mut open) = shared.try_lock() else {
        return Ok(Reply::error(
            "another call reads this stream; wait until it has answered",
        ));
    };
    let Open::Stream(frames) = &mut *open else {
        return Ok(unknown());
    };
    let wait = asked.wait_ms.map_or(READ_WAIT, Duration::from_millis);
    let most = asked
        .max_frames
        .unwrap_or(READ_FRAMES)
        .clamp(1, limits::ITEMS_MAX);
    let (frames, done) = take(call, frames, wait.min(limits::WAIT_MAX), most).await;
    drop(open);
    if done {
        services.handles.drop(id);
    }
    Ok(Reply::data(&ReadFrames { frames, done }))
}

/// Takes what is there, and waits only while there is nothing.
async fn take(call: &Call, stream: &mut Frames, wait: Duration, most: usize) -> (Vec<Frame>, bool) {
    let over = Instant::now() + wait;
    let mut frames = Vec::new();
    while frames.len() < most {
        let until = if frames.is_empty() {
            over
        } else {
            Instant::now()
        };
        let next = tokio::select! {
            biased;
            next = stream.next() => next,
            () = tokio::time::sleep_until(until) => return (frames, false),
            () = call.stopping().cancelled() => return (frames, false),
        };
        match next {
            None => return (frames, true),
            Some(Err(error)) => {
                frames.push(Frame {
                    r#type: "error".to_owned(),
                    payload: Some(told(&error)),
                });
                return (frames, true);
            }
            Some(Ok(envelope)) => {
                let last = envelope.is_final;
                let kind = envelope.effective_frame_type();
                frames.push(Frame {
                    r#type: kind.strip_prefix("response.").unwrap_or(kind).to_owned(),
                    payload: payload_of(&envelope),
                });
                #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
                call.progress(frames.len() as f64, None, Some("frames"))
                    .await;
                if last {
                    return (frames, true);
                }
            }
        }
    }
    (frames, false)
}
