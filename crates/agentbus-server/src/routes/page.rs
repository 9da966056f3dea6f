//! One small page, until there is a console: what runs, who serves what, a live tail, how to
//! connect. Three static files, no build step, no inline script.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Failure;
use crate::extract::Query;
use crate::reach;
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

/// How programs reach this bus.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Connect {
    /// Commands for a shell, and a few lines of Rust at the end.
    lines: Vec<String>,
}

/// Shows how programs reach this bus under the name that the request used, in lines to be copied.
#[utoipa::path(get, path = "/v1/connect", responses((status = 200, body = Connect)))]
pub(super) async fn connect(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Connect>, Failure> {
    let host = app.allowed.host(&headers, &uri)?;
    let lines = reach::lines(&app.config, &format!("http://{host}"));
    Ok(Json(Connect { lines }))
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
