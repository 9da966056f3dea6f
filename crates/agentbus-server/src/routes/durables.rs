//! Durable names, for those who look after the bus.

use std::sync::Arc;

use agentbus::Error;
use agentbus::transport::DurableInfo;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Failure;
use crate::extract::Path;
use crate::state::App;

/// The durable names there are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DurableNames {
    durables: Vec<DurableName>,
}

/// A durable name and how far it has come.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DurableName {
    name: String,
    /// The subjects that it listens on.
    pattern: String,
    group: Option<String>,
    /// Subscriptions that use it now; `null` where the transport does not know.
    members: Option<usize>,
    /// Messages that it has received and not settled.
    unsettled: usize,
    /// The newest message in the log that it has looked past.
    seen: u64,
    /// Messages in the log behind that one, whether they are for it or not; only those that are
    /// where the transport knows which.
    behind: u64,
}

impl From<DurableInfo> for DurableName {
    fn from(info: DurableInfo) -> Self {
        Self {
            name: info.name,
            pattern: info.pattern,
            group: info.group,
            members: info.members,
            unsettled: info.unsettled,
            seen: info.seen,
            behind: info.behind,
        }
    }
}

/// Lists the durable names, whether anybody uses them or not.
#[utoipa::path(get, path = "/v1/durables", responses(
    (status = 200, body = DurableNames),
    (status = 400, description = "INVALID_REQUEST: the transport cannot list names"),
))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<DurableNames>, Failure> {
    let known = app.bus.transport().durables().await;
    let known = known.map_err(Error::from)?.into_iter();
    let durables = known.map(DurableName::from).collect();
    Ok(Json(DurableNames { durables }))
}

/// Forgets a durable name and what it has not settled; the next subscription of it begins anew.
#[utoipa::path(delete, path = "/v1/durables/{name}",
    params(("name" = String, Path, description = "The durable name")),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = 400, description = "INVALID_REQUEST: there is no such name, it is in use, or the transport cannot remove names"),
    ),
)]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let removed = app.bus.transport().remove_durable(&name).await;
    removed.map_err(Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}
