//! A thread as people read it: each entry with its kind and its place.

use std::collections::HashMap;
use std::sync::Arc;

use agentbus_chat::store::MessageQuery;
use agentbus_chat::{ThreadId, Transcript};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::messages::metadata;
use super::refusal::Refusal;
use super::request::{Path, QueryFields};
use super::views::{self, Metadata};
use crate::state::App;

/// Entries on a page that names no limit.
const PAGE: usize = 400;

/// A thread as people read it.
#[utoipa::path(
    get,
    path = "/api/threads/{id}/transcript",
    tag = "conversations",
    params(
        ("id" = String, Path),
        ("after_seq" = Option<i64>, Query, description = "Only entries after this number"),
        ("before_seq" = Option<i64>, Query, description = "Only entries before this number"),
        ("tail" = Option<bool>, Query, description = "The newest of them instead of the oldest"),
        ("limit" = Option<i64>, Query, description = "At most so many, up to 2000; 400 without it"),
        ("metadata" = Option<String>, Query, description = "object, or string as in AgentChatBus"),
    ),
    responses((status = 200, description = "Messages with entry_kind (message or human_only) and transcript_index; those for people only also with anchor_seq"), (status = 404), (status = 422))
)]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    Path(id): Path<ThreadId>,
    query: QueryFields,
) -> Result<Json<Value>, Refusal> {
    let mut fields = query.0;
    let shown = metadata(&mut fields);
    let wanted = MessageQuery {
        after_seq: fields.int("after_seq").unwrap_or(0),
        before_seq: fields.int("before_seq"),
        newest: fields.flag("tail").unwrap_or(false),
        limit: fields.count("limit").unwrap_or(PAGE),
        ..MessageQuery::default()
    };
    fields.check()?;
    let page = app.chat.chat.transcript(id, wanted).await?;
    let faces = app.chat.chat.faces(&page.messages).await?;
    Ok(Json(entries(&page, shown, &faces)))
}

/// What agents do not see has no place among what they count, so it is anchored to what they saw
/// last.
fn entries(page: &Transcript, shown: Metadata, faces: &HashMap<String, String>) -> Value {
    let mut anchor = page.anchor;
    let listed = page.messages.iter().zip(page.before..);
    let listed = listed.map(|(one, index)| {
        let place = if one.human_only {
            json!({ "entry_kind": "human_only", "transcript_index": index, "anchor_seq": anchor })
        } else {
            anchor = one.seq;
            json!({ "entry_kind": "message", "transcript_index": index })
        };
        let listed = views::listed(one, &page.reactions, shown);
        views::with(views::faced(listed, faces), place)
    });
    Value::Array(listed.collect())
}
