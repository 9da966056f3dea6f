//! The bus's own log, as consoles show it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::request::QueryFields;
use crate::limits;
use crate::state::App;

/// Lines on a page that names no limit.
const PAGE: usize = 200;

/// The newest lines of the log.
#[utoipa::path(get, path = "/api/logs", tag = "conversations",
    params(
        ("after" = Option<i64>, Query, description = "The `next_cursor` of the page before; the newest lines without it"),
        ("limit" = Option<i64>, Query, description = "At most so many, up to 2000; 200 without it"),
    ),
    responses((status = 200, description = "entries of id and line, next_cursor"), (status = 422)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    query: QueryFields,
) -> Result<Json<Value>, Refusal> {
    let mut fields = query.0;
    let (after, limit) = (fields.count("after"), fields.count("limit"));
    fields.check()?;
    let limit = limit.unwrap_or(PAGE).clamp(1, limits::LOG_LINES);
    let log = app.config.log.as_ref();
    let (lines, next) = log.map_or_else(Default::default, |log| log.page(after, limit));
    let entries = lines
        .iter()
        .map(|(id, line)| json!({ "id": id, "line": line }));
    let entries: Vec<Value> = entries.collect();
    Ok(Json(json!({ "entries": entries, "next_cursor": next })))
}
