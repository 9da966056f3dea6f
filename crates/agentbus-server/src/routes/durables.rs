//! Durable names, for those who look after the bus.

use std::sync::Arc;

use agentbus::Error;
use axum::extract::State;
use axum::http::StatusCode;

use crate::error::Failure;
use crate::extract::Path;
use crate::state::App;

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
