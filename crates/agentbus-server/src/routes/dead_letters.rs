//! Dead letters, for those who look after the bus: list them, send them again, drop them.

use std::sync::Arc;

use agentbus::dead_letters::{Entry, Filter, RedriveError};
use agentbus::middleware::dead_letter::ORIGINAL_SUBJECT;
use agentbus::{Error, ErrorCode, ErrorPayload, EventId};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::IntoParams;

use crate::error::Failure;
use crate::extract::{Path, Query};
use crate::limits::{DEAD_LETTERS_PAGE, DEAD_LETTERS_PAGE_MAX};
use crate::state::App;

/// Which letters.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Which {
    /// Only letters of events of this type.
    event_type: Option<String>,
    /// Only letters with this reason.
    reason: Option<String>,
    /// How many of the newest to leave out.
    offset: Option<usize>,
    /// How many of the newest, after those that are left out; 100 unless given, at most 1000.
    limit: Option<usize>,
}

impl Which {
    fn filter(self) -> Filter {
        let limit = self.limit.unwrap_or(DEAD_LETTERS_PAGE);
        Filter {
            event_type: self.event_type,
            reason: self.reason,
            offset: self.offset.unwrap_or(0),
            limit: limit.min(DEAD_LETTERS_PAGE_MAX),
        }
    }
}

/// What is kept, and the letters that were asked for.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    entries: usize,
    evicted: u64,
    dead_letters: Vec<Letter>,
}

/// One letter. Its payload is written as it came.
#[derive(Debug, Serialize)]
struct Letter {
    id: String,
    event_type: String,
    reason: String,
    error: String,
    attempts: u32,
    redrives: u32,
    /// Where it was going.
    subject: Option<String>,
    from: String,
    occurred_at: String,
    kept_at: String,
    payload: Option<Box<RawValue>>,
}

impl From<Entry> for Letter {
    fn from(entry: Entry) -> Self {
        let letter = entry.letter;
        let payload = letter.payload.as_ref();
        let payload = payload.map(|payload| RawValue::from_string(payload.as_str().to_owned()));
        Self {
            id: letter.event_id.to_string(),
            event_type: entry.event_type,
            reason: entry.reason,
            error: entry.error,
            attempts: entry.attempts,
            redrives: entry.redrives,
            subject: letter.metadata.get(ORIGINAL_SUBJECT),
            from: letter.from.to_string(),
            occurred_at: letter.occurred_at.to_string(),
            kept_at: entry.kept_at.to_string(),
            // A payload is one JSON value.
            payload: payload.and_then(Result::ok),
        }
    }
}

/// Lists dead letters, the newest first.
#[utoipa::path(get, path = "/v1/dead-letters", params(Which), responses(
    (status = 200, description = "entries, evicted, dead_letters: id, event_type, reason, error, attempts, redrives, subject, from, occurred_at, kept_at, payload", body = Value),
))]
pub(super) async fn list(State(app): State<Arc<App>>, Query(which): Query<Which>) -> Json<Page> {
    let stats = app.letters.stats();
    let letters = app.letters.entries(&which.filter());
    Json(Page {
        entries: stats.entries,
        evicted: stats.evicted,
        dead_letters: letters.into_iter().map(Letter::from).collect(),
    })
}

/// Sends a letter to where it was going, and forgets it once it was handled there, as far as the
/// transport can tell.
#[utoipa::path(post, path = "/v1/dead-letters/{id}/redrive",
    params(("id" = String, Path, description = "The id of the letter")),
    responses(
        (status = 200, description = "redriven: the id; failed: none", body = Value),
        (status = 404, description = "INVALID_REQUEST: there is no such letter; NO_HANDLER: nobody listens where it was going"),
        (status = 409, description = "INVALID_REQUEST: it has failed too often"),
        (status = 502, description = "TRANSPORT_FAILURE: it failed again"),
        (status = 504, description = "AGENT_TIMEOUT: it was not handled in time"),
    ),
)]
pub(super) async fn redrive(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    attempt(&app, &EventId::parse(&id)).await?;
    Ok(Json(json!({ "redriven": [id], "failed": [] })))
}

/// Sends letters to where they were going, the oldest of them first.
#[utoipa::path(post, path = "/v1/dead-letters/redrive", params(Which), responses(
    (status = 200, description = "redriven: ids; failed: id and error of each that failed again", body = Value),
))]
pub(super) async fn redrive_all(
    State(app): State<Arc<App>>,
    Query(which): Query<Which>,
) -> Json<Value> {
    let (mut redriven, mut failed) = (Vec::new(), Vec::new());
    for entry in app.letters.redrivable(&which.filter()) {
        let id = &entry.letter.event_id;
        let Err(failure) = attempt(&app, id).await else {
            redriven.push(id.to_string());
            continue;
        };
        failed.push(json!({ "id": id.to_string(), "error": failure.message() }));
        // Whoever asked waits; where one was too slow, all that follow may be.
        if app.hang_up.is_cancelled() || failure.is_late() {
            break;
        }
    }
    Json(json!({ "redriven": redriven, "failed": failed }))
}

/// Forgets a letter for good.
#[utoipa::path(delete, path = "/v1/dead-letters/{id}",
    params(("id" = String, Path, description = "The id of the letter")),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = 404, description = "INVALID_REQUEST: there is no such letter"),
    ),
)]
pub(super) async fn discard(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    match app.letters.discard(&EventId::parse(&id)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(refused(RedriveError::Unknown)),
    }
}

/// Redrives a letter within the time of an invoke, and until the host hangs up.
async fn attempt(app: &App, id: &EventId) -> Result<(), Failure> {
    let limit = app.config.invoke_timeout;
    let cut = tokio::select! {
        biased;
        outcome = app.letters.redrive(id) => return outcome.map_err(refused),
        () = app.hang_up.cancelled() => (ErrorCode::AgentUnavailable, "the bus stopped before the letter was handled".to_owned()),
        () = tokio::time::sleep(limit) => (ErrorCode::AgentTimeout, format!("the letter was sent, and not handled within {limit:?}")),
    };
    let (code, reason) = cut;
    let message = format!("{reason}; it is kept, and sent once more if it is redriven again");
    Err(ErrorPayload::new(code, message).into())
}

fn refused(error: RedriveError) -> Failure {
    let invalid = |status, error: RedriveError| {
        let payload = ErrorPayload::new(ErrorCode::InvalidRequest, error.to_string());
        Failure::new(status, payload)
    };
    match error {
        RedriveError::Failed(error) => failed(error),
        RedriveError::Unknown => invalid(StatusCode::NOT_FOUND, error),
        error => invalid(StatusCode::CONFLICT, error),
    }
}

fn failed(error: Error) -> Failure {
    Failure::from(error).about("the letter failed again")
}
