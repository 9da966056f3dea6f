//! Calls of agents: one reply, or a stream of frames.

use std::sync::Arc;

use agentbus::{
    Envelope, Error, ErrorCode, ErrorPayload, EventId, EventType, Frames, Payload, mint,
};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::context;
use crate::cloudevents;
use crate::error::Failure;
use crate::extract::{Path, Query};
use crate::idempotency::{Asked, Stored};
use crate::sse::{self, Blocks};
use crate::state::App;

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How to answer.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// What the answer is: the reply's payload, or the whole reply as a CloudEvent 1.0, in JSON or
    /// with its attributes as `ce-*` headers.
    #[serde(default)]
    format: AnswerFormat,
}

/// What is made of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
enum AnswerFormat {
    #[default]
    #[serde(rename = "payload")]
    Payload,
    #[serde(rename = "cloudevents")]
    CloudEvents,
    #[serde(rename = "cloudevents-binary")]
    CloudEventsBinary,
}

impl AnswerFormat {
    fn answer(self, reply: &Envelope) -> Stored {
        let (headers, body) = match self {
            Self::Payload => return payload_of(reply),
            Self::CloudEvents => cloudevents::structured_answer(reply),
            Self::CloudEventsBinary => cloudevents::binary_answer(reply),
        };
        let status = match body.is_empty() {
            true => StatusCode::NO_CONTENT,
            false => StatusCode::OK,
        };
        Stored {
            status,
            headers,
            body,
        }
    }
}

/// Calls an agent and answers with the payload of its reply, or with the reply as a CloudEvent.
#[utoipa::path(
    post,
    path = "/v1/agents/{target}/invoke",
    params(
        ("target" = String, Path, description = "The target, one path segment"),
        Wanted,
        ("Idempotency-Key" = Option<String>, Header, description = "Repeat with the same key to get the same outcome, for 10 minutes"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context"),
        ("X-Session-Id" = Option<String>, Header, description = "Session"),
        ("X-Tenant-Id" = Option<String>, Header, description = "Tenant"),
    ),
    request_body(content = serde_json::Value, description = "Any JSON up to 4 MiB; empty for none"),
    responses(
        (status = 200, description = "The reply's payload; with `format`, the reply as application/cloudevents+json, or its data under `ce-*` headers", body = serde_json::Value),
        (status = 204, description = "A reply without payload; with `format=cloudevents-binary`, under `ce-*` headers"),
        (status = 400, description = "INVALID_REQUEST"),
        (status = 404, description = "NO_HANDLER: nobody serves the target"),
        (status = 429, description = "BACKPRESSURE_DROP"),
        (status = 502, description = "AGENT_UNAVAILABLE: the agent failed"),
        (status = 504, description = "AGENT_TIMEOUT"),
    )
)]
pub(super) async fn invoke(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    if target.is_empty() {
        return Err(super::not_found());
    }
    let body = context::body(body).await?;
    let context = context::context(&headers, &app.bus)?;
    let payload = context::payload(&body)?;
    let format = wanted.format;
    let call = app
        .bus
        .invoke_payload(target.as_str(), payload)
        .context(context.clone())
        .timeout(app.config.invoke_timeout);
    let Some(key) = headers.get(&IDEMPOTENCY_KEY) else {
        let answered = or_cut(&app, call.send()).await?;
        return Ok(format.answer(&answered).into_response());
    };
    let key = key.to_str().unwrap_or_default();
    let route = format!("invoke {format:?} {target}");
    let asked = Asked {
        route: &route,
        body: &body,
        context: &context,
    };
    // Boxed, so that requests without a key do not carry the room for it about.
    let run = Box::pin(async { stored(or_cut(&app, call.send()).await, format) });
    let once = Box::pin(app.outcomes.once(key, asked, run));
    Ok(once.await?.into_response())
}

/// Waits for a reply until the host hangs up, and then takes the call back: whoever asked is told
/// so while there is still time to say it.
pub(super) async fn or_cut(
    app: &App,
    reply: impl Future<Output = Result<Envelope, Error>>,
) -> Result<Envelope, Error> {
    tokio::select! {
        biased;
        reply = reply => reply,
        () = app.hang_up.cancelled() => {
            Err(Error::agent("the bus stopped before the call ended; ask again once it is back"))
        }
    }
}

/// The payload of a reply as an answer.
pub(super) fn payload_of(reply: &Envelope) -> Stored {
    match &reply.payload {
        Some(payload) => Stored::json(StatusCode::OK, payload.to_bytes()),
        None => Stored::json(StatusCode::NO_CONTENT, Bytes::new()),
    }
}

/// Keeps an outcome, good or bad, for those who ask again.
fn stored(outcome: Result<Envelope, Error>, format: AnswerFormat) -> Stored {
    match outcome {
        Ok(reply) => format.answer(&reply),
        Err(error) => Stored::failed(Failure::from(error)),
    }
}

/// Calls an agent and answers with its frames as server-sent events.
#[utoipa::path(
    post,
    path = "/v1/agents/{target}/stream",
    params(("target" = String, Path, description = "The target, one path segment")),
    request_body(content = serde_json::Value, description = "Any JSON up to 4 MiB; empty for none"),
    responses(
        (status = 200, description = "One event per frame, the whole envelope as data", content_type = "text/event-stream", body = String),
        (status = 400, description = "INVALID_REQUEST"),
        (status = 404, description = "NO_HANDLER: nobody serves the target"),
    )
)]
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    if target.is_empty() {
        return Err(super::not_found());
    }
    let body = context::body(body).await?;
    let context = context::context(&headers, &app.bus)?;
    let mut call = app
        .bus
        .stream_payload(target, context::payload(&body)?)
        .context(context.clone())
        .idle_timeout(app.config.stream_idle_timeout);
    if let Some(timeout) = app.config.stream_timeout {
        call = call.timeout(timeout);
    }
    let frames = call.send().await?;
    let request = frames.request_id().clone();
    let answer = Answer {
        frames,
        agent: app.bus.agent_id().into(),
        request,
        context,
    };
    Ok(sse::respond(
        answer,
        app.config.heartbeat,
        app.hang_up.clone(),
    ))
}

/// The frames of one call as events. Dropping it, as a client that leaves does, cancels the call.
struct Answer {
    frames: Frames,
    agent: agentbus::Text,
    request: EventId,
    context: agentbus::Context,
}

impl Blocks for Answer {
    async fn next(&mut self) -> Option<Bytes> {
        let frame = self.frames.next().await?;
        Some(self.block(frame))
    }

    fn ready(&mut self) -> Option<Bytes> {
        let frame = self.frames.next().now_or_never()??;
        Some(self.block(frame))
    }

    fn cut(&self) -> Option<Bytes> {
        let reason = "the bus stopped before the stream ended; ask again once it is back";
        let error = ErrorPayload::new(ErrorCode::AgentUnavailable, reason);
        Some(sse::block(&self.broken(&error)))
    }
}

impl Answer {
    fn block(&self, frame: Result<Envelope, Error>) -> Bytes {
        match frame {
            Ok(frame) => sse::block(&frame),
            Err(error) => sse::block(&self.broken(&error.to_payload())),
        }
    }

    /// The frame that ends a stream which failed on this side of the agent.
    fn broken(&self, error: &ErrorPayload) -> Envelope {
        let mut frame = Envelope::new(mint::stamp(), EventType::RESPONSE_ERROR);
        frame.frame_type = agentbus::protocol::FrameKind::Error.text();
        frame.is_final = true;
        frame.from.clone_from(&self.agent);
        frame.to.clone_from(&self.agent);
        frame.correlation_id = self.request.clone();
        frame.context = self.context.clone();
        frame.payload = Payload::json(error).ok();
        frame
    }
}
