//! Requests without a session, in the words of the newer releases of AgentChatBus: `{method,
//! params}` is answered with `{result}`, and a tool with its blocks.
//!
//! Each is alone: no agent is remembered, so a tool that speaks for one needs its token.

use agentbus::{ErrorCode, ErrorPayload};
use agentbus_mcp::{Fault, Visitor};
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Wishes, visitor};
use crate::error::Failure;
use crate::routes::context;
use crate::state::App;

/// What is asked. An envelope around it is not looked at.
#[derive(Debug, Deserialize)]
struct Asked {
    method: String,
    params: Option<Map<String, Value>>,
}

/// Calls a tool; its blocks.
pub(crate) async fn call(
    app: &App,
    headers: &HeaderMap,
    tool: &str,
    arguments: Map<String, Value>,
) -> Result<Value, Failure> {
    let visitor = visitor(app, headers, Wishes::default())?;
    let called = app.mcp.gateway.call(visitor, tool, arguments).await;
    called.map_err(|fault| failure(&fault))
}

/// Answers a message that names no session.
pub(super) async fn answer(
    app: &App,
    visitor: Visitor,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // A page of a stranger can make a browser send anything else without asking.
    if !kind.starts_with("application/json") {
        let text = "the body must be JSON; send it with `Content-Type: application/json`";
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let body = context::body_within(body, agentbus_mcp::limits::REQUEST_BYTES_MAX).await?;
    let Asked { method, params } = serde_json::from_slice(&body).map_err(|error| {
        Failure::invalid(format!(
            "the body names no session and is not `{{\"method\":…,\"params\":{{…}}}}`: {error}"
        ))
    })?;
    let gateway = &app.mcp.gateway;
    let answered = gateway.request(visitor, &method, params.unwrap_or_default());
    let result = answered.await.map_err(|fault| failure(&fault))?;
    Ok(Json(json!({ "result": result })).into_response())
}

fn failure(fault: &Fault) -> Failure {
    let status = match fault {
        Fault::Invalid(_) | Fault::Unable(_) => StatusCode::BAD_REQUEST,
        Fault::NoResource(_) => StatusCode::NOT_FOUND,
        Fault::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let code = match fault {
        Fault::Stopping => ErrorCode::AgentUnavailable,
        _ if status.is_client_error() => ErrorCode::InvalidRequest,
        _ => ErrorCode::TransportFailure,
    };
    Failure::new(status, ErrorPayload::new(code, fault.to_string()))
}

fn refused(status: StatusCode, text: &str) -> Failure {
    Failure::new(status, ErrorPayload::new(ErrorCode::InvalidRequest, text))
}
