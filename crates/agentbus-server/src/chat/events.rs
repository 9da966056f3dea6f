//! Events of conversations as server-sent events, without a loss across connections.

use std::sync::Arc;

use agentbus_chat::model::Event;
use agentbus_chat::{EventReader, Followed, ThreadId};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;

use super::refusal::Refusal;
use super::request::QueryFields;
use crate::sse::{self, Blocks};
use crate::state::App;

/// Follows events, from now on or from where the reader was.
#[utoipa::path(
    get,
    path = "/events",
    tag = "conversations",
    params(
        ("Last-Event-ID" = Option<i64>, Header, description = "The last event that the reader has; nothing after it is missed"),
        ("after_id" = Option<i64>, Query, description = "The same"),
        ("replay" = Option<bool>, Query, description = "Begin with everything that is kept"),
        ("thread_id" = Option<String>, Query, description = "Only events of this thread"),
    ),
    responses((status = 200, description = "One event each: id, event: message, data: {type, payload}", content_type = "text/event-stream", body = String))
)]
pub(super) async fn follow(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    query: QueryFields,
) -> Result<Response, Refusal> {
    let mut fields = query.0;
    let last = headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()?.trim().parse::<i64>().ok());
    let replay = fields.flag("replay").unwrap_or(false).then_some(0);
    let after = last.or(fields.int("after_id")).or(replay);
    let thread = fields.text("thread_id").map(ThreadId::new);
    fields.check()?;
    let reader = Reader {
        events: app.chat.chat.follow(after, thread).await?,
    };
    let (heartbeat, hang_up) = (app.config.heartbeat, app.hang_up.clone());
    Ok(sse::follow(reader, heartbeat, hang_up))
}

struct Reader {
    events: EventReader,
}

impl Blocks for Reader {
    async fn next(&mut self) -> Option<Bytes> {
        match self.events.next().await {
            Ok(Some(Followed::Event(event))) => Some(block(&event)),
            Ok(Some(Followed::Gap(upto))) => Some(gap(upto)),
            Ok(None) => None,
            Err(error) => {
                // The reader comes back with the last event it has, and misses nothing.
                tracing::warn!(%error, "a reader of events is sent away");
                None
            }
        }
    }
}

fn block(event: &Event) -> Bytes {
    let kind = Value::String(event.kind.to_string());
    let (id, payload) = (event.id, &event.payload);
    format!("id: {id}\nevent: message\ndata: {{\"type\": {kind}, \"payload\": {payload}}}\n\n")
        .into()
}

/// Tells a reader that was away for too long.
fn gap(upto: i64) -> Bytes {
    format!(
        "id: {upto}\nevent: message\ndata: {{\"type\": \"events.gap\", \"payload\": {{\"up_to\": {upto}}}}}\n\n"
    )
    .into()
}
