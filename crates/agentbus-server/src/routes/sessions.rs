//! Sessions of agents: which there are, and what happened in them.

use std::sync::Arc;

use agentbus::{Error, ErrorCode, ErrorPayload};
use agentbus_acp::log::{Followed, Follower, LogError};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use crate::error::Failure;
use crate::extract::{Path, Query};
use crate::sse::{self, Blocks};
use crate::state::App;

fn unreadable(error: &LogError) -> Failure {
    tracing::error!(%error, "sessions cannot be read");
    ErrorPayload::new(ErrorCode::TransportFailure, error.to_string()).into()
}

/// Lists the sessions of agents that are kept, the last used first.
#[utoipa::path(get, path = "/v1/sessions", responses(
    (status = 200, description = "sessions: id, agent, session, agent_session, created_ms, touched_ms, first, last", body = Value),
))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, Failure> {
    let sessions = match &app.config.sessions {
        Some(log) => log.sessions().await.map_err(|error| unreadable(&error))?,
        None => Vec::new(),
    };
    Ok(Json(json!({ "sessions": sessions })))
}

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Begin {
    /// The last offset that the reader has; everything from the beginning without it.
    after: Option<u64>,
}

/// Follows a session: what was said, and then what is said.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}/events",
    params(
        ("id" = String, Path, description = "The id of the session, as /v1/sessions lists it"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that the reader has; nothing after it is missed, and nothing comes twice"),
        Begin,
    ),
    responses(
        (status = 200, description = "One event each: its offset as id, opened, prompt, update, ended, lost or gap as event, JSON as data", content_type = "text/event-stream", body = String),
        (status = 400, description = "INVALID_REQUEST: there is no such session, or the offset is no number"),
    )
)]
pub(super) async fn follow(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(begin): Query<Begin>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let after = match headers.get("last-event-id") {
        Some(last) => last
            .to_str()
            .ok()
            .and_then(|last| last.trim().parse().ok())
            .ok_or_else(|| Failure::invalid("Last-Event-ID is the number of an event"))?,
        None => begin.after.unwrap_or(0),
    };
    let unknown = || {
        let message = format!("there is no session `{id}`; GET /v1/sessions lists those there are");
        Failure::from(Error::invalid_request(message))
    };
    let log = app.config.sessions.as_ref().ok_or_else(unknown)?;
    let follower = log
        .follow(&id, after)
        .await
        .map_err(|error| unreadable(&error))?;
    let reader = Reader {
        follower: follower.ok_or_else(unknown)?,
    };
    let (heartbeat, hang_up) = (app.config.heartbeat, app.hang_up.clone());
    Ok(sse::follow(reader, heartbeat, hang_up))
}

struct Reader {
    follower: Follower,
}

impl Blocks for Reader {
    async fn next(&mut self) -> Option<Bytes> {
        match self.follower.next().await {
            Ok(Some(followed)) => Some(block(&followed)),
            Ok(None) => None,
            Err(error) => {
                // The reader comes back with the last event it has, and misses nothing.
                tracing::warn!(%error, "a reader of a session is sent away");
                None
            }
        }
    }

    fn ready(&mut self) -> Option<Bytes> {
        self.follower.ready().as_ref().map(block)
    }
}

/// Payloads hold no line break, so that each is one line of data.
fn block(followed: &Followed) -> Bytes {
    match followed {
        Followed::Entry(entry) => {
            let (id, event, data) = (entry.offset, entry.kind.as_str(), &entry.data);
            format!("id: {id}\nevent: {event}\ndata: {data}\n\n").into()
        }
        Followed::Gap(upto) => {
            format!("id: {upto}\nevent: gap\ndata: {{\"up_to\":{upto}}}\n\n").into()
        }
    }
}
