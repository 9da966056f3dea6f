//! The route of search.

use std::sync::Arc;

use agentbus_chat::model::{SearchCursor, SearchOrder, SearchQuery};
use agentbus_chat::{Stamp, ThreadId};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::fields::Fields;
use super::paging;
use super::refusal::Refusal;
use super::request::QueryFields;
use super::views;
use crate::state::App;

/// Results on a page that names no limit.
const PAGE: usize = 50;

/// Searches messages, the newest first.
#[utoipa::path(
    get,
    path = "/api/search",
    tag = "conversations",
    params(
        ("q" = String, Query, description = "Words, \"phrases\", prefix*, OR, NOT, NEAR; `query` means the same"),
        ("thread_id" = Option<String>, Query), ("author" = Option<String>, Query, description = "Name or id"),
        ("role" = Option<String>, Query), ("status" = Option<String>, Query, description = "State of the thread"),
        ("after" = Option<String>, Query, description = "ISO date-time"), ("before" = Option<String>, Query, description = "ISO date-time"),
        ("order" = Option<String>, Query, description = "newest, or ranked: the best of the newest 5000 matches"),
        ("limit" = Option<i64>, Query, description = "1 to 200; 50 without it"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before, with the same query"),
    ),
    responses((status = 200, description = "results, total, query, has_more, next_cursor; query_error if the query was taken literally"), (status = 400), (status = 422))
)]
pub(super) async fn search(
    State(app): State<Arc<App>>,
    query: QueryFields,
) -> Result<Json<Value>, Refusal> {
    let mut fields = query.0;
    let name = if fields.has("query") && !fields.has("q") {
        "query"
    } else {
        "q"
    };
    let text = fields.required(name);
    let order = fields.word("order", &["newest", "ranked"]);
    let wanted = SearchQuery {
        text: text.clone(),
        thread_id: fields.text("thread_id").map(ThreadId::new),
        author: fields.text("author"),
        role: fields.text("role"),
        status: fields.text("status"),
        after: time(&mut fields, "after")?,
        before: time(&mut fields, "before")?,
        for_agents: false,
        order: match order.as_deref() {
            Some("ranked") => SearchOrder::Ranked,
            _ => SearchOrder::Newest,
        },
        from: cursor(&mut fields)?,
        limit: fields.count("limit").unwrap_or(PAGE),
    };
    fields.check()?;
    if text.trim().is_empty() {
        return Err(Refusal::bad("Query parameter 'q' must not be empty"));
    }
    let page = app.chat.chat.search(wanted).await?;
    let hits: Vec<_> = page.hits.iter().map(views::hit).collect();
    let next = page.next.map(|next| next.to_string());
    let mut body = json!({ "results": hits, "total": hits.len(), "query": text,
        "has_more": next.is_some(), "next_cursor": next });
    if let Some(error) = page.query_error {
        body["query_error"] = Value::String(error);
    }
    Ok(Json(body))
}

fn cursor(fields: &mut Fields) -> Result<Option<SearchCursor>, Refusal> {
    let Some(text) = fields.text("cursor") else {
        return Ok(None);
    };
    let found = SearchCursor::parse(&text);
    found.map(Some).ok_or_else(paging::no_cursor)
}

fn time(fields: &mut Fields, name: &str) -> Result<Option<Stamp>, Refusal> {
    let Some(text) = fields.text(name) else {
        return Ok(None);
    };
    let found = Stamp::parse(&text.replace(' ', "+"));
    let bad = || Refusal::bad(format!("Invalid '{name}': must be an ISO datetime string"));
    found.map(Some).ok_or_else(bad)
}
