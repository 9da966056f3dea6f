//! Waiting over HTTP, which AgentChatBus offered only over MCP.

use std::sync::Arc;
use std::time::Duration;

use agentbus_chat::{AgentId, Credentials, ThreadId, WaitRequest};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::request::{Path, Written};
use super::views::{self, Metadata};
use crate::state::App;

/// Waits until others have posted, or the time is up.
#[utoipa::path(post, path = "/api/threads/{id}/wait", tag = "conversations", params(("id" = String, Path)),
    request_body(content = Value, description = "after_seq*, timeout_ms, agent_id and token, for_agent"),
    responses((status = 200, description = "messages (none when the time is up), current_seq, reply_token, reply_window"), (status = 401), (status = 404), (status = 503, description = "The bus stops")))]
pub(super) async fn wait(
    State(app): State<Arc<App>>,
    Path(thread): Path<ThreadId>,
    mut asked: Written,
) -> Result<Json<Value>, Refusal> {
    let fields = &mut asked.fields;
    if !fields.has("after_seq") {
        fields.missing("after_seq");
    }
    let mut request = WaitRequest::new(thread, fields.int("after_seq").unwrap_or(0));
    let millis = fields.count("timeout_ms");
    request.timeout = millis.map(|millis| Duration::from_millis(millis as u64));
    request.for_agent = fields.text("for_agent");
    request.credentials = match (fields.text("agent_id"), fields.text("token")) {
        (None, None) => None,
        (id, token) => Some(Credentials {
            agent_id: AgentId::new(id.unwrap_or_default()),
            token: token.unwrap_or_default(),
        }),
    };
    fields.check()?;
    let waited = tokio::select! {
        waited = asked.chat.wait(request) => waited?,
        () = app.stopping.cancelled() => {
            let text = "the bus is stopping; wait again when it is back";
            return Err(Refusal::text(StatusCode::SERVICE_UNAVAILABLE, text));
        }
    };
    let messages = waited.messages.iter();
    let messages: Vec<_> = messages
        .map(|one| views::message(one, Metadata::Object))
        .collect();
    let body = json!({ "messages": messages });
    Ok(Json(views::with(body, views::sync(&waited.sync))))
}
