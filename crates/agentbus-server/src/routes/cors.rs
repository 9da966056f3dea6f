//! What a browser wants to hear before a page of another origin may call, as the Fetch standard says
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! Only the origins that the configuration names are told that they may. Cookies are never let
//! through: such a page shows the token.

use std::time::Duration;

use axum::http::{HeaderValue, Method};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// How long a browser may remember the answer.
const REMEMBERED: Duration = Duration::from_secs(600);

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
        // Also those that an agent gives its event, which have names of its own.
        .expose_headers(Any)
        .max_age(REMEMBERED);
    Some(cors)
}
