//! What every request passes before a route sees it: host, origin, token.
//!
//! The checks stand in front of the router, so that a route cannot forget them. They defend a
//! listener on loopback against web pages: a foreign page cannot forge `Host` (DNS rebinding) and
//! cannot hide its `Origin`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

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

    /// Returns the one host that the request names, if it is ours.
    fn host<'a>(&self, headers: &'a HeaderMap, uri: &'a Uri) -> Result<&'a str, Failure> {
        let mut named = headers.get_all(header::HOST).iter();
        let host = match (named.next(), named.next(), uri.authority()) {
            (Some(host), None, _) => host.to_str().unwrap_or_default(),
            (None, None, Some(authority)) => authority.as_str(),
            _ => return Err(Failure::forbidden("a request names exactly one host")),
        };
        let known = host.parse::<Authority>().is_ok_and(|authority| {
            self.hosts.contains(&authority.host().to_lowercase()) && !host.contains('@')
        });
        if known {
            Ok(host)
        } else {
            Err(foreign("host", host, "--allow-host"))
        }
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

pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = match admit(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(failure) => {
            app.metrics.refused();
            failure.into_response()
        }
    };
    harden(response.headers_mut());
    response
}

fn admit(app: &App, request: &Request) -> Result<(), Failure> {
    let host = app.allowed.host(request.headers(), request.uri())?;
    app.allowed.origin(request.headers(), host)?;
    if OPEN_ROUTES.contains(&request.uri().path()) || app.auth.admits(request.headers()) {
        return Ok(());
    }
    Err(Failure::unauthorized(
        "the token is missing or wrong; send `Authorization: Bearer TOKEN` with the token that `agentbus token` prints",
    ))
}

/// Headers that keep a browser from doing more with an answer than showing it.
fn harden(headers: &mut HeaderMap) {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
        connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
        frame-ancestors 'none'";
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}
