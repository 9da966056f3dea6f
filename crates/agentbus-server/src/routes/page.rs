//! One small page, until there is a console: what runs, who serves what, a live tail, how to
//! connect. Three static files, no build step, no inline script.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;

use crate::error::Failure;
use crate::state::App;

pub(super) async fn index() -> Html<&'static str> {
    Html(include_str!("../page/index.html"))
}

pub(super) async fn script() -> Response {
    (
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")],
        include_str!("../page/page.js"),
    )
        .into_response()
}

pub(super) async fn style() -> Response {
    (
        [(header::CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("../page/page.css"),
    )
        .into_response()
}

#[derive(Debug, Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    code: String,
}

/// Trades the one-time code of a console link for a session cookie.
pub(super) async fn open(State(app): State<Arc<App>>, Query(link): Query<Link>) -> Response {
    match app.auth.open_session(&link.code) {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        None => {
            let (mut parts, body) = Failure::unauthorized(
                "this link was used or is too old; start the bus again for a new one",
            )
            .into_response()
            .into_parts();
            parts.status = StatusCode::UNAUTHORIZED;
            Response::from_parts(parts, body)
        }
    }
}
