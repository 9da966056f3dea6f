//! What every route needs from a request: its query, its body, and under which key it writes.

use std::collections::HashMap;
use std::sync::Arc;

use agentbus_chat::{Chat, IdempotencyKey};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fields::Fields;
use super::refusal::Refusal;
use crate::extract;
use crate::routes::context;
use crate::state::App;

/// A parameter of the path.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = extract::Path::<T>::from_request_parts(parts, state).await?;
        Ok(Self(path.0))
    }
}

/// The query of a request.
pub(super) struct QueryFields(pub(super) Fields);

impl FromRequestParts<Arc<App>> for QueryFields {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let query = Query::<HashMap<String, String>>::from_request_parts(parts, app).await;
        let query = query.map_err(|error| Refusal::bad(error.to_string()))?;
        let values = query
            .0
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)));
        Ok(Self(Fields::of("query", values.collect())))
    }
}

/// A request that may write: its fields, who says so, and the conversations under its key.
pub(super) struct Written {
    pub(super) fields: Fields,
    pub(super) headers: HeaderMap,
    pub(super) chat: Chat,
    /// The body as it came.
    pub(super) body: Bytes,
}

impl FromRequest<Arc<App>> for Written {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let body = context::body(body).await?;
        let fields = Fields::of("body", object(&parts.headers, &body)?);
        let asked = format!("{} {}", parts.method, parts.uri);
        let key = key(&asked, &parts.headers, &String::from_utf8_lossy(&body))?;
        Ok(Self {
            fields,
            chat: app.chat.chat.under(key),
            headers: parts.headers,
            body,
        })
    }
}

impl Written {
    /// What the agent shows that it speaks for.
    pub(super) fn agent_token(&self) -> Option<String> {
        let value = self.headers.get("x-agent-token")?.to_str().ok()?;
        (!value.is_empty()).then(|| value.to_owned())
    }
}

/// Reads the body as an object; an empty one has no fields. Only JSON is read, because a page of a
/// stranger can make a browser send anything else without asking.
fn object(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
        let text = "the body must be JSON; send it with `Content-Type: application/json`";
        return Err(Refusal::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(Refusal::text(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the body must be a JSON object",
        )),
        Err(error) => Err(Refusal::text(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the body is not valid JSON: {error}"),
        )),
    }
}

/// A key is good for one request: what is asked, by whom, with which body.
pub(super) fn key(
    asked: &str,
    headers: &HeaderMap,
    body: &str,
) -> Result<Option<IdempotencyKey>, Refusal> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let token = headers
        .get("x-agent-token")
        .map(axum::http::HeaderValue::as_bytes);
    let token = String::from_utf8_lossy(token.unwrap_or_default());
    let request = format!("{asked}\n{token}\n{body}");
    let key = key.to_str().unwrap_or_default();
    Ok(Some(IdempotencyKey::new("rest", key, &request)?))
}
