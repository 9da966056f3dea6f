//! The tools of MCP, for clients that speak plain HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::refusal::Refusal;
use super::request::{Path, Written};
use crate::state::App;

/// Calls a tool. Nothing is remembered: a tool that speaks for an agent needs its token.
#[utoipa::path(post, path = "/api/mcp/tool/{name}", tag = "conversations", params(("name" = String, Path)),
    request_body(content = Value, description = "The arguments of the tool; `idempotency_key` is one of them"),
    responses((status = 200, description = "The blocks that the tool answered with, as an array"), (status = 400, description = "No such tool, or arguments that do not fit it"), (status = 422)))]
pub(super) async fn call(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Written,
) -> Result<Json<Value>, Refusal> {
    let arguments = asked.fields.into_values();
    let blocks = crate::mcp::call(&app, &asked.headers, &name, arguments).await?;
    Ok(Json(blocks))
}
