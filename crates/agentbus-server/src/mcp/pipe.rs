//! The older HTTP transport: one stream of events to the client, and posts from it.

use std::sync::Arc;

use agentbus_mcp::{Pipe, PipeError, Visitor};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::{Wishes, parse_error, stateless, visitor};
use crate::error::Failure;
use crate::extract::Query;
use crate::routes::context;
use crate::sse::{self, Blocks};
use crate::state::App;

/// Opens a session. Its first event names where to post.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Query(wishes): Query<Wishes>,
    request: Request,
) -> Result<Response, Failure> {
    let visitor = visitor(&app, request.headers(), wishes)?;
    let opened = app.mcp.gateway.open_pipe(visitor);
    let (id, pipe) = opened.map_err(|fault| {
        let code = agentbus::ErrorCode::BackpressureDrop;
        Failure::from(agentbus::ErrorPayload::new(code, fault.to_string()))
    })?;
    let reader = Reader {
        greeting: Some(id),
        pipe,
    };
    Ok(sse::respond(
        reader,
        app.config.heartbeat,
        app.hang_up.clone(),
    ))
}

struct Reader {
    greeting: Option<String>,
    pipe: Pipe,
}

impl Blocks for Reader {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(id) = self.greeting.take() {
            let path = format!("/mcp/messages/?session_id={id}");
            return Some(format!("event: endpoint\ndata: {path}\n\n").into());
        }
        let message = self.pipe.next().await?;
        Some(format!("event: message\ndata: {message}\n\n").into())
    }
}

/// How clients name a session.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Named {
    session_id: Option<String>,
    #[serde(rename = "sessionId")]
    session: Option<String>,
    sid: Option<String>,
}

impl Named {
    fn id(self, headers: &HeaderMap) -> Option<String> {
        let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        self.session_id
            .or(self.session)
            .or(self.sid)
            .or_else(|| header("x-session-id"))
            .or_else(|| header("mcp-session-id"))
    }
}

/// Takes a message for a session; the answer comes on the session's stream. One that names no
/// session is answered at once.
pub(super) async fn message(
    State(app): State<Arc<App>>,
    Query(named): Query<Named>,
    Query(wishes): Query<Wishes>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let Some(id) = named.id(&parts.headers) else {
        let visitor = visitor(&app, &parts.headers, wishes)?;
        return stateless::answer(&app, visitor, &parts.headers, body).await;
    };
    let visitor = visitor(&app, &parts.headers, Wishes::default())?;
    let malformed = id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if malformed {
        return Err(Failure::invalid("the session id is not one of ours"));
    }
    take(&app, &id, &visitor, body).await
}

async fn take(app: &App, id: &str, visitor: &Visitor, body: Body) -> Result<Response, Failure> {
    let body = context::body_within(body, agentbus_mcp::limits::REQUEST_BYTES_MAX).await?;
    match app.mcp.gateway.pipes().send(id, visitor, &body).await {
        Ok(()) => Ok((StatusCode::ACCEPTED, "Accepted").into_response()),
        Err(PipeError::Ended) => {
            Ok((StatusCode::NOT_FOUND, "Could not find session").into_response())
        }
        Err(error) => Ok(parse_error(&error.to_string())),
    }
}
