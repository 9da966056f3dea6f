//! Conversations over HTTP: the routes under `/api`, the events at `/events`, uploads.
//!
//! Paths, bodies and errors are those of AgentChatBus 0.1.8, so that its clients work; where its
//! two releases differ, both spellings are read and the older shape is written, with the fields of
//! the newer beside it. Errors have the form `{"detail": …}`.
//!
//! Every event of a conversation is also published on the bus as `chat.` and its type, in the same
//! order.

mod admin;
mod agents;
mod bridge;
mod cards;
mod decisions;
mod events;
mod fields;
mod logs;
mod manifest;
mod messages;
mod paging;
mod posting;
mod refusal;
mod request;
mod search;
mod settings;
mod system;
mod templates;
mod threads;
mod tools;
mod transcript;
mod uploads;
mod views;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;

use agentbus_chat::{Background, Chat, Stamp, Turns, TurnsConfig};
use agentbus_mcp::Uploads;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::App;
use crate::{ServerConfig, ServerError};
use refusal::Refusal;

/// The conversations of a host.
#[derive(Debug)]
pub(crate) struct ChatHost {
    pub(crate) chat: Chat,
    /// Outside of everything that is served as a file.
    uploads: PathBuf,
    /// Where the conversations are, without what is secret about it.
    place: String,
    started: Stamp,
}

impl ChatHost {
    pub(crate) async fn open(config: &ServerConfig) -> Result<Self, ServerError> {
        let mut settings = config.chat.clone();
        settings::apply(&config.data_dir, &mut settings);
        let (place, chat) = match &config.chat_store {
            Some(url) => (without_user(url), Chat::open_url(url, settings).await),
            None => {
                let file = config.chat_database.clone();
                let file = file.unwrap_or_else(|| config.data_dir.join("chat.db"));
                (file.display().to_string(), Chat::open(file, settings).await)
            }
        };
        let chat = chat.map_err(|source| ServerError::Chat {
            place: place.clone(),
            source,
        })?;
        Ok(Self {
            started: chat.now(),
            chat,
            uploads: config.data_dir.join("uploads"),
            place,
        })
    }

    /// Reads the images that were uploaded, for those who are shown messages.
    pub(crate) fn uploads(&self) -> Uploads {
        uploads::reader(self.uploads.clone())
    }

    pub(crate) async fn close(&self) {
        self.chat.close().await;
    }
}

/// A URL without user, password and options, any of which may be a secret.
fn without_user(url: &str) -> String {
    let begin = url.find("://").map_or(0, |scheme| scheme + "://".len());
    let (scheme, rest) = url.split_at(begin);
    let (_, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let place = place.split('?').next().unwrap_or_default();
    format!("{scheme}{place}")
}

/// Starts what runs beside the requests; it ends with the host.
pub(crate) async fn start(app: &Arc<App>) -> Result<(), ServerError> {
    let background = Background::new(app.chat.chat.clone());
    app.tasks.spawn(background.run(app.hang_up.clone()));
    let bridge = bridge::Bridge::new(app).await;
    let bridge = bridge.map_err(|source| ServerError::Chat {
        place: app.chat.place.clone(),
        source,
    })?;
    app.tasks.spawn(bridge.run());
    app.decisions
        .join(Arc::new(cards::Cards(app.chat.chat.clone())));
    let live = app.config.live_agents.clone();
    if !live.is_empty() {
        let (chat, bus) = (app.chat.chat.clone(), app.bus.clone());
        let turns = Turns::begin(chat, bus, TurnsConfig::new(live), app.hang_up.clone()).await;
        let turns = turns.map_err(|source| ServerError::Chat {
            place: app.chat.place.clone(),
            source,
        })?;
        app.tasks.spawn(turns.run());
    }
    Ok(())
}

pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(system::health))
        .routes(routes!(system::metrics))
        .routes(routes!(system::diagnostics))
        .routes(routes!(system::sse_status))
        .routes(routes!(logs::read))
        .routes(routes!(settings::read, settings::write))
        .routes(routes!(manifest::read))
        .routes(routes!(threads::list, threads::create))
        .routes(routes!(threads::get, threads::delete))
        .routes(routes!(threads::state))
        .routes(routes!(threads::close))
        .routes(routes!(threads::archive))
        .routes(routes!(threads::unarchive))
        .routes(routes!(threads::rename))
        .routes(routes!(threads::sync_context))
        .routes(routes!(threads::agents))
        .routes(routes!(threads::export))
        .routes(routes!(transcript::read))
        .routes(routes!(admin::settings, admin::update_settings))
        .routes(routes!(admin::admin))
        .routes(routes!(admin::decision))
        .routes(routes!(decisions::list))
        .routes(routes!(decisions::answer))
        .routes(routes!(messages::list, posting::post))
        .routes(routes!(waiting::wait))
        .routes(routes!(messages::get, messages::edit))
        .routes(routes!(messages::history))
        .routes(routes!(messages::reactions, messages::react))
        .routes(routes!(messages::unreact))
        .routes(routes!(agents::list))
        .routes(routes!(agents::register))
        .routes(routes!(agents::heartbeat))
        .routes(routes!(agents::resume))
        .routes(routes!(agents::unregister))
        .routes(routes!(agents::get, agents::update))
        .routes(routes!(agents::kick))
        .routes(routes!(templates::list, templates::create))
        .routes(routes!(templates::get, templates::delete))
        .routes(routes!(uploads::upload))
        .routes(routes!(uploads::serve))
        .routes(routes!(tools::call))
        .routes(routes!(search::search))
        .routes(routes!(events::follow))
}

/// Whether a path belongs to the conversations, whose errors have a form of their own.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with("/api/") || path == "/events" || path == "/health"
}

pub(crate) fn not_found() -> Response {
    Refusal::not_found("Not Found").into_response()
}

pub(crate) fn method_not_allowed() -> Response {
    Refusal::text(
        axum::http::StatusCode::METHOD_NOT_ALLOWED,
        "Method Not Allowed",
    )
    .into_response()
}
