//! From HTTP headers and body to an envelope's context and payload.

use agentbus::protocol::TraceParent;
use agentbus::{Bus, Context, ContextFields, Payload, Text};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};

use crate::error::Failure;
use crate::limits::{BODY_BYTES_MAX, BODY_TIMEOUT};

/// Longest value that is taken over from a context header, in bytes.
const CONTEXT_VALUE_BYTES_MAX: usize = 1024;

// Names as values, because a name given as text is parsed again for every look.
static TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
static TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");
static SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
static CONVERSATION_ID: HeaderName = HeaderName::from_static("x-conversation-id");
static USER_ID: HeaderName = HeaderName::from_static("x-user-id");
static CHANNEL: HeaderName = HeaderName::from_static("x-channel");
static OWN_TRACEPARENT: HeaderName = HeaderName::from_static("x-traceparent");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Reads the context headers. A request without a trace begins one, so that everything it causes
/// can be found under one id.
pub(super) fn context(headers: &HeaderMap, bus: &Bus) -> Result<Context, Failure> {
    let mut fields = ContextFields {
        trace_id: text(headers, &TRACE_ID)?,
        tenant_id: tenant(headers)?,
        session_id: text(headers, &SESSION_ID)?,
        conversation_id: text(headers, &CONVERSATION_ID)?,
        user_id: text(headers, &USER_ID)?,
        channel: text(headers, &CHANNEL)?,
        traceparent: text(headers, &OWN_TRACEPARENT)?,
        ..ContextFields::default()
    };
    if fields.traceparent.is_empty() {
        let standard = text(headers, &TRACEPARENT)?;
        let trace = TraceParent::parse(&standard).or_else(|| bus.begin_trace());
        fields.traceparent = trace.map(TraceParent::text).unwrap_or_default();
    }
    Ok(fields.into())
}

/// Reads whose subjects are meant; empty for those of the bus.
pub(crate) fn tenant(headers: &HeaderMap) -> Result<Text, Failure> {
    text(headers, &TENANT_ID)
}

/// The same for those who keep it for longer than a request, and checked for that; `None` for the
/// tenant of the bus.
pub(crate) fn other_tenant(headers: &HeaderMap, bus: &Bus) -> Result<Option<Text>, Failure> {
    let (tenant, own) = (tenant(headers)?, bus.subjects());
    if tenant.is_empty() || tenant.as_str() == own.tenant() {
        return Ok(None);
    }
    own.with_tenant(&tenant).map_err(agentbus::Error::from)?;
    Ok(Some(tenant))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Text, Failure> {
    let Some(value) = headers.get(name) else {
        return Ok(Text::default());
    };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(value) if value.len() <= CONTEXT_VALUE_BYTES_MAX => Ok(value.trim().into()),
        _ => Err(Failure::invalid(format!(
            "the header {name} must be UTF-8 of at most {CONTEXT_VALUE_BYTES_MAX} bytes"
        ))),
    }
}

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than what is taken.
    #[error("body exceeds {} MiB limit", .limit / MEBIBYTE)]
    TooLarge {
        /// What would have been taken, in bytes.
        limit: usize,
    },
    /// It did not come in time.
    #[error("the body did not come within {} s", BODY_TIMEOUT.as_secs())]
    Late,
    /// It broke off.
    #[error("the body could not be read: {0}")]
    Broken(String),
}

const MEBIBYTE: usize = 1024 * 1024;

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Reads a body within the limit of most routes.
pub(crate) async fn body(body: Body) -> Result<Bytes, BodyError> {
    body_within(body, BODY_BYTES_MAX).await
}

/// Reads a body within a limit.
pub(crate) async fn body_within(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let collected = Limited::new(body, limit).collect();
    let collected = tokio::time::timeout(BODY_TIMEOUT, collected).await;
    match collected.map_err(|_| BodyError::Late)? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(BodyError::TooLarge { limit })
        }
        Err(error) => Err(BodyError::Broken(error.to_string())),
    }
}

/// Takes a body as payload; an empty one and `null` are none.
pub(super) fn payload(body: &Bytes) -> Result<Option<Payload>, Failure> {
    Payload::from_bytes(body).map_err(|_| Failure::invalid("body is not valid JSON"))
}
