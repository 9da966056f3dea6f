//! What every request passes before a route sees it: host, origin, token.
//!
//! The checks stand in front of the router, so that a route cannot forget them. They defend a
//! listener on loopback against web pages: a foreign page cannot forge `Host` (DNS rebinding) and
//! cannot hide its `Origin`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::{MatchedPath, Request};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::error::Failure;
use crate::state::App;

/// Which hosts and origins may be named.
#[derive(Debug)]
pub(crate) struct AllowList {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl AllowList {
    pub(crate) fn new(hosts: &[String], origins: &[String]) -> Self {
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let hosts = loopback
            .into_iter()
            .chain(hosts.iter().map(|host| host.to_lowercase()));
        Self {
            hosts: hosts.collect(),
            origins: origins.to_vec(),
        }
    }

    /// Returns the one host that the request names, if it is ours. The authority of a target in
    /// absolute form replaces `Host` (RFC 9112, section 3.2.2), which a proxy in front may have gone
    /// by all the same, so both must be ours.
    pub(crate) fn host<'a>(
        &self,
        headers: &'a HeaderMap,
        uri: &'a Uri,
    ) -> Result<&'a str, Failure> {
        let one = || Failure::forbidden("a request names exactly one host");
        let mut named = headers.get_all(header::HOST).iter();
        let (first, None) = (named.next(), named.next()) else {
            return Err(one());
        };
        let header = first.map(|host| host.to_str().unwrap_or_default());
        let target = uri.authority().map(Authority::as_str);
        for host in [header, target].into_iter().flatten() {
            if !self.is_ours(host) {
                return Err(foreign("host", host, "--allow-host"));
            }
        }
        target.or(header).ok_or_else(one)
    }

    fn is_ours(&self, host: &str) -> bool {
        // The way that nearly all clients write it needs no parser.
        let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
        let plain = port.bytes().all(|byte| byte.is_ascii_digit());
        if plain && self.hosts.iter().any(|known| known == name) {
            return true;
        }
        // A name, an address and a port hold nothing else, and it is shown in lines for a shell.
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        host.bytes().all(usual)
            && host
                .parse::<Authority>()
                .is_ok_and(|authority| self.hosts.contains(&authority.host().to_lowercase()))
    }

    /// Accepts no origin at all, the host's own, and those that were configured.
    fn origin(&self, headers: &HeaderMap, host: &str) -> Result<(), Failure> {
        let mut named = headers.get_all(header::ORIGIN).iter();
        let origin = match (named.next(), named.next()) {
            (None, _) => return Ok(()),
            (Some(origin), None) => origin.to_str().unwrap_or_default(),
            _ => return Err(Failure::forbidden("a request names at most one origin")),
        };
        let own = origin
            .split_once("://")
            .is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && rest == host);
        if own || self.origins.iter().any(|allowed| allowed == origin) {
            return Ok(());
        }
        Err(foreign("origin", origin, "--allow-origin"))
    }
}

fn foreign(what: &str, name: &str, flag: &str) -> Failure {
    let name: String = name
        .chars()
        .take(100)
        .flat_map(char::escape_default)
        .collect();
    Failure::forbidden(format!(
        "the {what} `{name}` is not allowed here; if it is yours, start the bus with {flag}"
    ))
}

/// Routes that answer without a token: the health check, and the link that begins a session.
const OPEN_ROUTES: [&str; 2] = ["/healthz", "/open"];

/// Puts the checks, the counting and the headers of answers around every route, as one service:
/// each further layer would be one more boxed future for every request.
#[derive(Debug, Clone)]
pub(crate) struct GuardLayer(pub(crate) Arc<App>);

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            app: Arc::clone(&self.0),
        }
    }
}

/// The service of [`GuardLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Guard<S> {
    inner: S,
    app: Arc<App>,
}

impl<S> Service<Request> for Guard<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Guarded<S::Future> {
        let outcome = match admit(&self.app, &request) {
            Ok(()) => Outcome::Routed {
                route: request.extensions().get::<MatchedPath>().cloned(),
                in_flight: InFlight::begin(&self.app),
                answering: self.inner.call(request),
            },
            Err(failure) => {
                self.app.metrics.refused();
                Outcome::Refused {
                    answer: Some(failure.into_response()),
                }
            }
        };
        Guarded { outcome }
    }
}

pin_project! {
    /// The future of [`Guard`].
    pub(crate) struct Guarded<F> {
        #[pin]
        outcome: Outcome<F>,
    }
}

pin_project! {
    #[project = OutcomeProjection]
    enum Outcome<F> {
        Refused {
            answer: Option<Response>,
        },
        Routed {
            route: Option<MatchedPath>,
            in_flight: InFlight,
            #[pin]
            answering: F,
        },
    }
}

impl<F, E> Future for Guarded<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = match self.project().outcome.project() {
            OutcomeProjection::Refused { answer } => match answer.take() {
                Some(answer) => answer,
                None => return Poll::Pending,
            },
            OutcomeProjection::Routed {
                route,
                in_flight,
                answering,
            } => {
                let response = ready!(answering.poll(cx))?;
                let route = route.as_ref().map_or("none", MatchedPath::as_str);
                in_flight.answered(route, response.status());
                response
            }
        };
        harden(response.headers_mut());
        Poll::Ready(Ok(response))
    }
}

/// A request between its admission and its answer, also when its client leaves.
struct InFlight(Arc<App>);

impl InFlight {
    fn begin(app: &Arc<App>) -> Self {
        app.metrics.begin();
        Self(Arc::clone(app))
    }

    /// Counts an answer by route, so that an operator sees errors without reading logs.
    fn answered(&self, route: &str, status: StatusCode) {
        self.0.metrics.answered(route, status);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.end();
    }
}

fn admit(app: &App, request: &Request) -> Result<(), Failure> {
    let host = app.allowed.host(request.headers(), request.uri())?;
    app.allowed.origin(request.headers(), host)?;
    let path = request.uri().path();
    if OPEN_ROUTES.contains(&path) {
        return Ok(());
    }
    if let Some(agent) = app.auth.agent(request.headers()) {
        // Everything else is for whoever runs the bus: what agents wait for, pools, settings.
        return match path == "/mcp" || path.starts_with("/mcp/") {
            true => Ok(()),
            false => Err(Failure::forbidden(format!(
                "the token of the agent `{agent}` opens /mcp and nothing else"
            ))),
        };
    }
    if app.auth.admits(request.headers()) {
        return Ok(());
    }
    Err(Failure::unauthorized(
        "the token is missing or wrong; send `Authorization: Bearer TOKEN` with the token that `agentbus token` prints",
    ))
}

/// Headers that keep a browser from doing more with an answer than showing it.
fn harden(headers: &mut HeaderMap) {
    // Constants, so that nothing is checked again for each answer.
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
        img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
    const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
    const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::REFERRER_POLICY, NO_REFERRER);
    headers.insert(RESOURCE_POLICY, SAME_ORIGIN);
    headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
}
