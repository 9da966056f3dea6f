//! Pools of worker processes, for those who look after them.
//!
//! The host knows nothing of processes: each route is a call of the target through which pools are
//! looked after, which anybody on the bus could make. Without pools it is an unknown target.

use std::sync::Arc;

use agentbus::Error;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::extract::Path;
use crate::state::App;

/// The target that looks after the pools.
const OPERATOR: &str = "agentbus.pools";

async fn ask(app: &App, order: Value) -> Result<Response, Failure> {
    let call = app.bus.invoke(OPERATOR, &order).no_timeout();
    match super::agents::or_cut(app, call.send()).await {
        Ok(reply) => Ok(super::agents::payload_of(&reply).into_response()),
        Err(Error::NoHandler { .. }) => Err(Error::invalid_request(
            "this bus has no pools; add [[pools]] to its configuration",
        )
        .into()),
        Err(error) => Err(error.into()),
    }
}

/// Lists the pools and their workers.
#[utoipa::path(get, path = "/v1/pools", responses(
    (status = 200, description = "Every pool with its workers", body = Value),
    (status = 400, description = "INVALID_REQUEST: there are no pools"),
))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    ask(&app, json!({ "do": "list" })).await
}

/// Replaces the processes of a pool, each once it has no work, or starts a drained pool.
#[utoipa::path(post, path = "/v1/pools/{pool}/restart",
    params(("pool" = String, Path, description = "The pool")),
    responses((status = 200, body = Value), (status = 400, description = "INVALID_REQUEST: no such pool")),
)]
pub(super) async fn restart(
    State(app): State<Arc<App>>,
    Path(pool): Path<String>,
) -> Result<Response, Failure> {
    ask(&app, json!({ "do": "restart", "pool": pool })).await
}

/// Finishes what a pool has under way and ends its workers.
#[utoipa::path(post, path = "/v1/pools/{pool}/drain",
    params(("pool" = String, Path, description = "The pool")),
    responses((status = 200, body = Value), (status = 400, description = "INVALID_REQUEST: no such pool")),
)]
pub(super) async fn drain(
    State(app): State<Arc<App>>,
    Path(pool): Path<String>,
) -> Result<Response, Failure> {
    ask(&app, json!({ "do": "drain", "pool": pool })).await
}

/// Returns what the workers of a pool last wrote to standard error.
#[utoipa::path(get, path = "/v1/pools/{pool}/logs",
    params(("pool" = String, Path, description = "The pool")),
    responses((status = 200, body = Value), (status = 400, description = "INVALID_REQUEST: no such pool")),
)]
pub(super) async fn logs(
    State(app): State<Arc<App>>,
    Path(pool): Path<String>,
) -> Result<Response, Failure> {
    ask(&app, json!({ "do": "logs", "pool": pool })).await
}
