//! MCP over HTTP, for a host that has checked who calls.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::handler::{Handler, Shared};
use super::sessions::{Answering, Sessions};
use crate::{Principal, Profile, Visitor, limits};

/// What the SDK answers.
type SdkResponse = Response<BoxBody<Bytes, Infallible>>;

static SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// The Streamable HTTP transport with sessions that belong to those who opened them.
///
/// It trusts its host: `Host`, `Origin` and the proof of identity are checked before it is called,
/// and who was found is among the request's extensions as a [`Visitor`].
#[derive(Clone)]
pub struct HttpService {
    inner: StreamableHttpService<Handler, LocalSessionManager>,
    sessions: Sessions,
}

impl HttpService {
    pub(crate) fn new(shared: Arc<Shared>, sessions: Sessions, hang_up: CancellationToken) -> Self {
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .disable_allowed_origins()
            .with_max_request_body_bytes(limits::REQUEST_BYTES_MAX)
            .with_cancellation_token(hang_up);
        // Over HTTP every request says who it is of; nobody is the one that says nothing.
        let nobody = Visitor::new(Principal::new(""), Profile::Core);
        let handler = move || Ok::<_, io::Error>(Handler::new(Arc::clone(&shared), nobody.clone()));
        Self {
            inner: StreamableHttpService::new(handler, sessions.manager(), config),
            sessions,
        }
    }

    /// Answers a request of the visitor.
    pub async fn serve<B>(&self, mut request: Request<B>, visitor: Visitor) -> Response<HttpBody>
    where
        B: Body + Send + 'static,
        B::Data: Send + 'static,
        B::Error: std::fmt::Display,
    {
        let principal = visitor.principal.clone();
        let named = session(request.headers()).map(str::to_owned);
        match &named {
            Some(id) if !self.sessions.belongs(id, &principal) => {
                let text = "Not Found: there is no such session; initialize a new one";
                return refusal(StatusCode::NOT_FOUND, text);
            }
            None if request.method() == Method::POST && !self.sessions.make_room().await => {
                let text = "all sessions are in use; try again when one has ended";
                return refusal(StatusCode::SERVICE_UNAVAILABLE, text);
            }
            _ => {}
        }
        let ends = request.method() == Method::DELETE;
        request.extensions_mut().insert(visitor);
        let response = match &named {
            Some(_) => self.inner.handle(request).await,
            None => match self.open(request, principal).await {
                Ok(response) => response,
                Err(_) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, "the server failed"),
            },
        };
        if let Some(id) = named
            .as_deref()
            .filter(|_| ends && response.status().is_success())
        {
            self.sessions.closed(id);
        }
        let of = named.as_deref().or_else(|| session(response.headers()));
        let answering = of.map(|id| self.sessions.answering(id));
        let mut response = response.map(|body| HttpBody {
            body,
            _answering: answering,
        });
        // Proxies that collect a stream before they pass it on would keep it from the client.
        let unbuffered = HeaderValue::from_static("no");
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-accel-buffering"), unbuffered);
        response
    }
}

impl HttpService {
    /// Answers a request that belongs to no session and may open one. In a task of its own: a client
    /// that hangs up meanwhile would leave a session that nobody knows and nobody ends.
    fn open<B>(&self, request: Request<B>, principal: Principal) -> JoinHandle<SdkResponse>
    where
        B: Body + Send + 'static,
        B::Data: Send + 'static,
        B::Error: std::fmt::Display,
    {
        let (inner, sessions) = (self.inner.clone(), self.sessions.clone());
        tokio::spawn(async move {
            let response = inner.handle(request).await;
            if let Some(id) = session(response.headers()) {
                sessions.opened(id, principal);
            }
            response
        })
    }
}

/// The session that a request or an answer names.
pub(super) fn session(headers: &http::HeaderMap) -> Option<&str> {
    headers.get(&SESSION)?.to_str().ok()
}

fn refusal(status: StatusCode, text: &'static str) -> Response<HttpBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).boxed();
    let mut response = Response::new(HttpBody {
        body,
        _answering: None,
    });
    *response.status_mut() = status;
    response
}

/// The body of an answer. Its session is in use until it is read or dropped.
pub struct HttpBody {
    body: BoxBody<Bytes, Infallible>,
    _answering: Option<Answering>,
}

impl Body for HttpBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl std::fmt::Debug for HttpService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpService").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HttpBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agentbus::telemetry::Spans;

    use super::*;
    use crate::Catalog;
    use crate::sdk::{Running, Seal};

    /// A client that hangs up while its session is being opened leaves one that is known, and ends.
    #[tokio::test]
    async fn no_session_is_opened_that_nobody_knows() {
        let shared = Arc::new(Shared {
            catalog: Catalog::new(),
            instructions: String::new(),
            seal: Seal::new(),
            stopping: CancellationToken::new(),
            running: Running::default(),
            board: None,
            spans: Spans::default(),
        });
        let sessions = Sessions::new();
        let service = HttpService::new(shared, sessions.clone(), CancellationToken::new());
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",
            "capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
        let request = Request::post("/mcp")
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let visitor = Visitor::new(Principal::new("a"), Profile::Core);
        {
            let mut serving = std::pin::pin!(service.serve(request, visitor));
            // Begun, and given up before it is answered.
            let begun = futures_util::poll!(&mut serving);
            assert!(begun.is_pending());
        }
        let known = async {
            while sessions.count() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let known = tokio::time::timeout(Duration::from_secs(60), known).await;
        assert!(known.is_ok(), "the session is lost");
    }
}
