//! Errors in the form that clients of AgentChatBus read: `{"detail": text or object or list}`.

use agentbus_chat::store::StoreError;
use agentbus_chat::{AuthProblem, ChatError};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::views;
use crate::error::Failure;
use crate::routes::context::BodyError;

/// A refused request.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Value,
    retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn detail(status: StatusCode, detail: Value) -> Self {
        let body = Map::from_iter([("detail".to_owned(), detail)]);
        Self {
            status,
            body: Value::Object(body),
            retry_after: None,
        }
    }

    pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::detail(status, Value::String(text.into()))
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::text(StatusCode::BAD_REQUEST, text)
    }

    /// For several reasons, which are told together and one by one.
    pub(super) fn bad_for(reasons: &[String]) -> Self {
        let mut refusal = Self::bad(reasons.join("; "));
        refusal.body["errors"] = json!(reasons);
        refusal
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::text(StatusCode::NOT_FOUND, text)
    }

    pub(super) fn unauthorized(text: impl Into<String>) -> Self {
        Self::text(StatusCode::UNAUTHORIZED, text)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn into_body(self) -> Value {
        self.body
    }

    /// A mismatch also has the fields of the newer releases, beside the detail of the older.
    fn mismatch(expected: i64, current: i64, unseen: &[agentbus_chat::model::Message]) -> Self {
        let unseen: Vec<_> = unseen.iter().map(views::unseen).collect();
        let detail = json!({ "error": "SEQ_MISMATCH", "expected_last_seq": expected,
            "current_seq": current, "new_messages": unseen, "action": "RE_READ_AND_RETRY" });
        let mut refusal = Self::detail(StatusCode::CONFLICT, detail);
        refusal.body["error"] = json!("SEQ_MISMATCH");
        refusal.body["expected_last_seq"] = json!(expected);
        refusal.body["current_seq"] = json!(current);
        refusal.body["new_messages_1st_read"] = json!(unseen);
        refusal.body["action"] = json!("RE_READ_AND_RETRY");
        refusal
    }

    fn rate_limited(limit: u32, window_s: u64) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            // Not under `detail`: so it was, and so it is read.
            body: json!({ "error": "Rate limit exceeded", "limit": limit, "window": window_s,
                "retry_after": window_s }),
            retry_after: Some(window_s),
        }
    }

    /// A token that is of no use, and what to do about it.
    fn token(error: &str, mut more: Value) -> Self {
        more["error"] = json!(error);
        more["action"] = json!("CALL_SYNC_CONTEXT_THEN_RETRY");
        Self::detail(StatusCode::BAD_REQUEST, more)
    }

    fn store(error: &StoreError) -> Self {
        let status = match error {
            StoreError::Busy
            | StoreError::Locked
            | StoreError::Closed
            | StoreError::Undone
            | StoreError::Unreachable(_)
            | StoreError::Uncertain(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Unstorable => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::Full | StoreError::Unwritable { .. } => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%error, "a conversation failed");
        }
        Self::text(status, error.to_string())
    }
}

impl From<ChatError> for Refusal {
    fn from(error: ChatError) -> Self {
        match &error {
            ChatError::ThreadNotFound(_) => Self::not_found("Thread not found"),
            ChatError::MessageNotFound(id) => Self::not_found(format!("Message '{id}' not found")),
            ChatError::AgentNotFound(_) => Self::not_found("Agent not found"),
            ChatError::TemplateNotFound(id) => {
                Self::not_found(format!("Template '{id}' not found."))
            }
            ChatError::ThreadClosed(_) => Self::detail(
                StatusCode::BAD_REQUEST,
                json!({ "error": "THREAD_CLOSED", "message": error.to_string() }),
            ),
            ChatError::Unauthenticated(AuthProblem::Missing) => {
                Self::unauthorized("X-Agent-Token header required")
            }
            ChatError::Unauthenticated(_) | ChatError::Kicked(_) => {
                Self::unauthorized(error.to_string())
            }
            ChatError::Forbidden(text) => Self::text(StatusCode::FORBIDDEN, text),
            ChatError::Conflict(text) => Self::text(StatusCode::CONFLICT, text),
            ChatError::ContentBlocked { field, pattern } => {
                let what = if *field == "content" {
                    "Content"
                } else {
                    field
                };
                let error = format!("{what} blocked by content filter");
                let error = error.replace("Content blocked by content", "Content blocked by");
                Self::detail(
                    StatusCode::BAD_REQUEST,
                    json!({ "error": error, "pattern": pattern }),
                )
            }
            ChatError::MissingSyncFields { missing } => {
                Self::token("MISSING_SYNC_FIELDS", json!({ "missing_fields": missing }))
            }
            ChatError::TokenInvalid => Self::token("TOKEN_INVALID", json!({})),
            ChatError::TokenReplay { consumed_at } => {
                Self::token("TOKEN_REPLAY", json!({ "consumed_at": consumed_at }))
            }
            ChatError::SeqMismatch {
                expected,
                current,
                new_messages,
            } => Self::mismatch(*expected, *current, new_messages),
            ChatError::RateLimited { limit, window_s } => Self::rate_limited(*limit, *window_s),
            ChatError::TooLarge { .. } => {
                Self::text(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
            }
            ChatError::TooMany { .. } => {
                Self::text(StatusCode::TOO_MANY_REQUESTS, error.to_string())
            }
            ChatError::KeyReused => Self::text(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            ChatError::Store(error) => Self::store(error),
            _ => Self::bad(error.to_string()),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let (status, body) = failure.into_parts();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        Self::text(status, body["message"].as_str().unwrap_or_default())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Late | BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        };
        Self::text(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            let value = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_that_is_too_long_is_called_so() {
        let limit = 4 * 1024 * 1024;
        let long = Refusal::from(BodyError::TooLarge { limit });
        assert_eq!(long.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(
            long.into_body(),
            json!({ "detail": "body exceeds 4 MiB limit" })
        );
        let text = "the key is over its limit";
        let other = Refusal::from(Failure::invalid(text));
        assert_eq!(other.status(), StatusCode::BAD_REQUEST);
        assert_eq!(other.into_body(), json!({ "detail": text }));
    }
}
