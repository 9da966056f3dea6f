//! What operators ask: who serves what, is it well, what does it count.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::{App, Served};

/// Who serves what, and how busy they are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overview {
    version: &'static str,
    transport: &'static str,
    uptime_s: u64,
    published: u64,
    calls_open: usize,
    targets: Vec<Target>,
    subscriptions: Vec<Queue>,
}

/// One target and one of the agents that serve it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Target {
    #[serde(flatten)]
    served: Served,
    /// Requests that wait for the target's handlers.
    waiting: usize,
    /// Requests handed to the target's handlers so far.
    delivered: u64,
}

/// One queue of the transport.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queue {
    pattern: String,
    group: Option<String>,
    depth: usize,
    capacity: usize,
    delivered: u64,
    dropped: u64,
}

/// Lists the targets, their agents and all queues.
#[utoipa::path(get, path = "/v1/targets", responses((status = 200, body = Overview)))]
pub(super) async fn targets(State(app): State<Arc<App>>) -> Json<Overview> {
    let stats = app.bus.transport().stats();
    let by_pattern: HashMap<_, _> = stats
        .queues
        .iter()
        .map(|queue| (queue.pattern.as_str(), queue))
        .collect();
    let queue_of = |served: &Served| {
        let own = app.bus.subjects();
        let subject = match &served.tenant {
            Some(tenant) => own.with_tenant(tenant).ok()?.invoke(&served.name).ok()?,
            None => own.invoke(&served.name).ok()?,
        };
        by_pattern.get(subject.as_str()).copied()
    };
    let own = app.bus.targets().into_iter().map(|target| Served {
        name: target.name,
        agent: app.bus.agent_id().to_owned(),
        group: target.group,
        tenant: None,
    });
    let served = own.chain(app.agents.list()).map(|served| {
        let queue = queue_of(&served);
        let waiting = queue.map_or(0, |queue| queue.depth);
        Target {
            waiting,
            delivered: queue.map_or(0, |queue| queue.delivered),
            served,
        }
    });
    Json(Overview {
        version: env!("CARGO_PKG_VERSION"),
        transport: app.bus.transport().capabilities().name,
        uptime_s: app.started.elapsed().as_secs(),
        published: stats.published,
        calls_open: stats.inboxes,
        targets: served.collect(),
        subscriptions: stats.queues.iter().map(Queue::from).collect(),
    })
}

impl From<&agentbus::transport::QueueStats> for Queue {
    fn from(stats: &agentbus::transport::QueueStats) -> Self {
        Self {
            pattern: stats.pattern.clone(),
            group: stats.group.clone(),
            depth: stats.depth,
            capacity: stats.capacity,
            delivered: stats.delivered,
            dropped: stats.dropped,
        }
    }
}

/// Says that the process lives. Needs no token.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It lives")))]
pub(super) async fn health() -> Response {
    json(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// Says whether new work is taken.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "New work is taken"),
    (status = 503, description = "The bus is stopping"),
))]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.stopping.is_cancelled() {
        return json(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"stopping"}"#);
    }
    json(StatusCode::OK, r#"{"status":"ready"}"#)
}

fn json(status: StatusCode, body: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// All figures in Prometheus text format 0.0.4.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, crate::metrics::render(&app)).into_response()
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1")))]
pub(super) async fn openapi_json() -> Response {
    Json(super::openapi()).into_response()
}
