//! Events: publish one, or read all that match.

use std::sync::Arc;

use agentbus::protocol::TraceParent;
use agentbus::protocol::limits::NAME_BYTES_MAX;
use agentbus::{Delivery, Overflow, Subscription};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::context;
use crate::cloudevents;
use crate::error::Failure;
use crate::extract::{Path, Query};
use crate::idempotency::{Asked, Stored};
use crate::limits;
use crate::sse::{self, Blocks};
use crate::state::App;

/// Publishes an event.
#[utoipa::path(
    post,
    path = "/v1/events/{event_type}",
    params(
        ("event_type" = String, Path, description = "For example order.paid"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeat with the same key without publishing twice, for 10 minutes"),
    ),
    request_body(content = serde_json::Value, description = "Any JSON up to 4 MiB; empty for none"),
    responses(
        (status = 202, description = "The transport has taken the event"),
        (status = 400, description = "INVALID_REQUEST"),
    )
)]
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    Path(event_type): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let body = context::body(body).await?;
    let context = context::context(&headers, &app.bus)?;
    let payload = context::payload(&body)?;
    let event = app
        .bus
        .publish_payload(event_type.as_str(), payload)
        .context(context.clone());
    let Some(key) = headers.get("idempotency-key") else {
        event.await?;
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    let run = async {
        match event.await {
            Ok(_) => Stored::json(StatusCode::ACCEPTED, Bytes::new()),
            Err(error) => Stored::failed(error.into()),
        }
    };
    let key = key.to_str().unwrap_or_default();
    let route = format!("publish {event_type}");
    let asked = Asked {
        route: &route,
        body: &body,
        context: &context,
    };
    Ok(app.outcomes.once(key, asked, run).await?.into_response())
}

/// Publishes CloudEvents 1.0, structured, batched or binary; the `type` of each is its event type.
#[utoipa::path(
    post,
    path = "/v1/events",
    request_body(content = serde_json::Value, content_type = "application/cloudevents+json",
        description = "One event, an array of up to 1000 as application/cloudevents-batch+json, or, with ce-* headers, the data of one"),
    responses(
        (status = 202, description = "The transport has taken all events"),
        (status = 400, description = "INVALID_REQUEST: nothing was published"),
    )
)]
pub(super) async fn publish_cloud_events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Failure> {
    let body = context::body(body).await?;
    let shared = context::context(&headers, &app.bus)?;
    let events = cloudevents::read(&headers, &body)?;
    let keyed = app.bus.transport().capabilities().idempotency;
    let all = events.len();
    for (at, event) in events.into_iter().enumerate() {
        let mut publish = app
            .bus
            .publish_payload(event.event_type.as_str(), event.payload)
            .context(shared.clone())
            .metadata(event.metadata);
        if let Some(trace) = event.traceparent.as_deref().and_then(TraceParent::parse) {
            publish = publish.traceparent(trace.text());
        }
        if keyed && event.key.len() <= NAME_BYTES_MAX {
            publish = publish.idempotency_key(event.key);
        }
        let taken = |error| Failure::from(error).about(format!("{at} of {all} events were taken"));
        publish.await.map_err(taken)?;
    }
    Ok(StatusCode::ACCEPTED)
}

/// What to read.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Filter {
    /// A pattern of event types: `*` is one token, `>` the rest. All events without it.
    pattern: Option<String>,
    /// What stands in `data`: the envelope, or the event as a structured CloudEvent 1.0. Events of a
    /// stream have no headers of their own, in which the attributes of a binary one would stand.
    #[serde(default)]
    format: Format,
}

/// How events are written.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Envelope,
    CloudEvents,
}

/// Reads events as server-sent events from now on.
#[utoipa::path(
    get,
    path = "/v1/events",
    params(
        Filter,
        ("X-Tenant-Id" = Option<String>, Header, description = "The tenant whose events are read"),
    ),
    responses(
        (status = 200, description = "One event each, the whole envelope as data; comments in between", content_type = "text/event-stream", body = String),
        (status = 400, description = "INVALID_REQUEST: the pattern or the tenant is not valid"),
    )
)]
pub(super) async fn subscribe(
    State(app): State<Arc<App>>,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let pattern = filter.pattern.unwrap_or_else(|| ">".to_owned());
    let events = app
        .bus
        .subscribe(pattern)
        .tenant(context::tenant(&headers)?)
        .capacity(limits::EVENT_QUEUE)
        .overflow(Overflow::DropOldest)
        .await?;
    let reader = Reader {
        events,
        format: filter.format,
        waiting: None,
    };
    Ok(sse::follow(
        reader,
        app.config.heartbeat,
        app.hang_up.clone(),
    ))
}

/// Events of one reader. A reader who lost some is told so before the next one.
struct Reader {
    events: Subscription,
    format: Format,
    waiting: Option<Delivery>,
}

impl Blocks for Reader {
    async fn next(&mut self) -> Option<Bytes> {
        let delivery = match self.waiting.take() {
            Some(delivery) => delivery,
            None => self.events.next().await?,
        };
        if delivery.missed() > 0 && self.waiting.is_none() {
            let notice = sse::missed(delivery.missed());
            self.waiting = Some(delivery.without_missed());
            return Some(notice);
        }
        let block = match self.format {
            Format::Envelope => sse::block(delivery.envelope()),
            Format::CloudEvents => sse::cloud_event(delivery.envelope()),
        };
        // What the reader does with it cannot be known; the event was handed out.
        let _ = delivery.ack().await;
        Some(block)
    }
}
