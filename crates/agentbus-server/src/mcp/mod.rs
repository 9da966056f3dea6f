//! MCP over HTTP: the newest transport at `/mcp`, the older one at `/mcp/sse`.
//!
//! `/mcp/sse` is where clients of AgentChatBus go, with either transport: a GET without a session
//! opens the older one, everything else is the newer. What is posted to `/mcp/messages/` and names
//! no session is answered alone, as the newer releases of AgentChatBus do.

mod pipe;
mod stateless;

use std::sync::Arc;

use agentbus::protocol::TraceParent;
use agentbus_mcp::{Gateway, HttpService, McpConfig, Profile, Visitor};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::chat::ChatHost;
use crate::error::Failure;
use crate::extract::Query;
use crate::routes::context;
use crate::state::App;
use crate::{Board, ServerConfig, ServerError};

pub(crate) use stateless::call;

/// The MCP gateway of a host.
#[derive(Debug)]
pub(crate) struct McpHost {
    pub(crate) gateway: Gateway,
    http: HttpService,
    profile: Profile,
}

impl McpHost {
    pub(crate) fn new(
        config: &ServerConfig,
        url: String,
        (chat, bus, board): (&ChatHost, &agentbus::Bus, &Board),
    ) -> Result<Self, ServerError> {
        let told = McpConfig {
            endpoint: url,
            invoke_timeout: config.invoke_timeout,
            board: Some(board.clone()),
            uploads: Some(chat.uploads()),
            ..config.mcp.clone()
        };
        let gateway = Gateway::new(told, chat.chat.clone(), bus.clone())?;
        Ok(Self {
            http: gateway.http(),
            gateway,
            profile: config.mcp.profile,
        })
    }
}

/// Starts what runs beside the requests; it ends with the gateway.
pub(crate) fn start(app: &Arc<App>) {
    let gateway = app.mcp.gateway.clone();
    app.tasks.spawn(async move {
        if let Err(error) = gateway.run().await {
            tracing::error!(%error, "listeners of resources are not told of changes any more");
        }
    });
}

pub(crate) fn routes() -> Router<Arc<App>> {
    let all = MethodFilter::GET
        .or(MethodFilter::POST)
        .or(MethodFilter::DELETE);
    Router::new()
        .route("/mcp", on(all, serve))
        .route("/mcp/sse", on(all, serve_either))
        .route("/mcp/messages", post(pipe::message))
        .route("/mcp/messages/", post(pipe::message))
}

/// What a connection wishes.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wishes {
    profile: Option<String>,
    lang: Option<String>,
}

/// Finds out who calls. The guard has let the request through, so somebody does.
fn visitor(app: &App, headers: &HeaderMap, wishes: Wishes) -> Result<Visitor, Failure> {
    let principal = app.auth.principal(headers).ok_or_else(|| {
        Failure::unauthorized("the token is missing; send `Authorization: Bearer TOKEN`")
    })?;
    let profile = match wishes.profile.as_deref() {
        None => app.mcp.profile,
        Some(word) => Profile::parse(word).ok_or_else(|| {
            let known = Profile::WORDS.join(" and ");
            let word: String = word.chars().take(40).collect();
            Failure::invalid(format!("there is no profile `{word}`; there are {known}"))
        })?,
    };
    let tenant = context::other_tenant(headers, &app.bus)?;
    if tenant.is_some() && principal.as_agent().is_some() {
        return Err(Failure::forbidden(
            "the token of an agent is for the tenant of the bus; leave X-Tenant-Id out",
        ));
    }
    let language = wishes.lang.filter(|language| !language.trim().is_empty());
    let trace = headers.get("traceparent");
    let trace = trace.and_then(|value| value.to_str().ok());
    Ok(Visitor {
        language,
        trace: trace.and_then(TraceParent::parse),
        tenant,
        ..Visitor::new(principal, profile)
    })
}

async fn serve(
    State(app): State<Arc<App>>,
    Query(wishes): Query<Wishes>,
    request: Request,
) -> Result<Response, Failure> {
    let visitor = visitor(&app, request.headers(), wishes)?;
    let (parts, body) = request.into_parts();
    let body = context::body_within(body, agentbus_mcp::limits::REQUEST_BYTES_MAX).await?;
    if parts.method == Method::POST
        && let Err(error) = serde_json::from_slice::<IgnoredAny>(&body)
    {
        return Ok(parse_error(&error.to_string()));
    }
    let request = Request::from_parts(parts, Body::from(body));
    let response = app.mcp.http.serve(request, visitor).await;
    Ok(response.map(Body::new))
}

/// What JSON-RPC says of a body that is no message.
fn parse_error(text: &str) -> Response {
    let message = format!("the body is not a JSON-RPC message: {text}");
    let body = json!({ "jsonrpc": "2.0", "id": null,
        "error": { "code": -32700, "message": message } });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// Serves the transport that the client means.
async fn serve_either(
    state: State<Arc<App>>,
    wishes: Query<Wishes>,
    request: Request,
) -> Result<Response, Failure> {
    let in_session = request.headers().contains_key("mcp-session-id");
    if request.method() == Method::GET && !in_session {
        return Ok(pipe::open(state, wishes, request).await?.into_response());
    }
    serve(state, wishes, request).await
}
