//! The routes and their order of checks: guard, route, body, bus.

mod agents;
pub(crate) mod context;
mod cors;
mod dead_letters;
mod durables;
mod events;
mod operator;
mod page;
mod pools;
mod sessions;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Failure;
use crate::guard::GuardLayer;
use crate::state::App;
use crate::{acp, ws};

#[derive(OpenApi)]
#[openapi(info(
    title = "AgentBus",
    description = "One bus for AI agents: invoke, stream, publish and subscribe over HTTP. \
        Every route but /healthz wants `Authorization: Bearer TOKEN`."
))]
struct Description;

/// Builds the router with everything around it.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (routes, _) = described().split_for_parts();
    let cors = cors::layer(&app.config.allowed_origins);
    let routes = routes
        .route("/v1/ws", get(ws::upgrade))
        .route("/acp", get(acp::upgrade))
        .route("/", get(page::index))
        .route("/page.js", get(page::script))
        .route("/page.css", get(page::style))
        .route("/open", get(page::open))
        .merge(crate::mcp::routes())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(nowhere)
        // The routes read their bodies themselves, within their own limit and with their own
        // error, so the framework's smaller limit must not come first.
        .layer((GuardLayer(Arc::clone(&app)), DefaultBodyLimit::disable()));
    // Around the guard: a browser asks without the token whether a page may use it.
    match cors {
        Some(cors) => routes.layer(cors).with_state(app),
        None => routes.with_state(app),
    }
}

fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(agents::invoke))
        .routes(routes!(agents::stream))
        .routes(routes!(events::publish))
        .routes(routes!(events::subscribe, events::publish_cloud_events))
        .routes(routes!(operator::targets))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::redrive_all))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(dead_letters::redrive))
        .routes(routes!(durables::list))
        .routes(routes!(durables::remove))
        .routes(routes!(page::connect))
        .routes(routes!(pools::list))
        .routes(routes!(pools::restart))
        .routes(routes!(pools::drain))
        .routes(routes!(pools::logs))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::follow))
        .routes(routes!(operator::health))
        .routes(routes!(operator::ready))
        .routes(routes!(operator::metrics))
        .routes(routes!(operator::openapi_json))
        .merge(crate::chat::routes())
}

pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

/// Answers where there is no route, in the form of the neighbouring routes.
async fn nowhere(request: Request) -> Response {
    if crate::chat::owns(request.uri().path()) {
        return crate::chat::not_found();
    }
    not_found().into_response()
}

fn not_found() -> Failure {
    let text = "there is no such route; GET /openapi.json describes those there are";
    Failure::refused(StatusCode::NOT_FOUND, text)
}

/// Says which methods there are.
async fn method_not_allowed(request: Request) -> Response {
    let path = request.uri().path();
    if crate::chat::owns(path) {
        return crate::chat::method_not_allowed();
    }
    let begins = |one: &str| path.starts_with(one);
    let ends = |one: &str| path.ends_with(one);
    let orders = ["/restart", "/drain", "/redrive"].into_iter().any(ends);
    let posts = begins("/v1/agents/") || begins("/v1/events/") || begins("/mcp/messages") || orders;
    let allow = match posts {
        true => "POST",
        false if begins("/v1/dead-letters/") || begins("/v1/durables/") => "DELETE",
        false if path == "/v1/events" => "GET, HEAD, POST",
        false if path.starts_with("/mcp") => "GET, HEAD, POST, DELETE",
        false => "GET, HEAD",
    };
    let text = format!(
        "{} is no method of this route; it has {allow}",
        request.method()
    );
    let refusal = Failure::refused(StatusCode::METHOD_NOT_ALLOWED, text);
    ([(header::ALLOW, allow)], refusal).into_response()
}
