//! What a browser wants to hear before a page of another origin may call, as the Fetch standard says
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! Only the origins that the configuration names are told that they may. Cookies are never let
//! through: such a page shows the token.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, CorsLayer};

/// How long a browser may remember the answer.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Headers of answers that a page may read, besides those that every page may.
const READABLE: [HeaderName; 2] = [
    HeaderName::from_static("mcp-session-id"),
    header::RETRY_AFTER,
];

/// The layer for these origins; `None` where there are none, so that nothing is said at all.
pub(super) fn layer(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<_> = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok())
        .collect();
    if origins.is_empty() {
        return None;
    }
    let methods = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods(methods)
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(READABLE)
        .max_age(REMEMBERED);
    Some(cors)
}
