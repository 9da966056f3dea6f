//! Settings in the words of AgentChatBus. What is changed here is kept in `settings.json` in the
//! data directory, and counts over the configuration file from the next start on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentbus_chat::store::StoreError;
use agentbus_chat::{ChatConfig, ChatError};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::refusal::Refusal;
use super::request::Written;
use crate::state::App;

type Answer = Result<Json<Value>, Refusal>;

/// Settings that are numbers, and settings that are switches.
const NUMBERS: [&str; 3] = ["PORT", "AGENT_HEARTBEAT_TIMEOUT", "MSG_WAIT_TIMEOUT"];
const SWITCHES: [&str; 3] = [
    "ENABLE_HANDOFF_TARGET",
    "ENABLE_STOP_REASON",
    "ENABLE_PRIORITY",
];

/// The settings.
#[utoipa::path(get, path = "/api/settings", tag = "conversations", responses((status = 200, description = "The settings")))]
pub(super) async fn read(State(app): State<Arc<App>>) -> Json<Value> {
    let chat = app.chat.chat.config();
    Json(json!({
        "HOST": app.address.ip(), "PORT": app.address.port(),
        "AGENT_HEARTBEAT_TIMEOUT": chat.heartbeat_timeout.as_secs(),
        "MSG_WAIT_TIMEOUT": chat.wait_timeout.as_secs(), "REPLY_TOKEN_LEASE_SECONDS": 3600,
        "SEQ_TOLERANCE": chat.seq_tolerance,
        "SEQ_MISMATCH_MAX_MESSAGES": chat.mismatch_messages_max,
        "EXPOSE_THREAD_RESOURCES": chat.expose_thread_resources,
        "ENABLE_HANDOFF_TARGET": chat.enable_handoff_target,
        "ENABLE_STOP_REASON": chat.enable_stop_reason, "ENABLE_PRIORITY": chat.enable_priority,
    }))
}

/// Keeps settings for the next start.
#[utoipa::path(put, path = "/api/settings", tag = "conversations",
    params(
        ("X-Admin-Token" = Option<String>, Header, description = "Where one is configured"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeat with the same key without saving twice, for a day"),
    ),
    request_body(content = Value, description = "AGENT_HEARTBEAT_TIMEOUT, MSG_WAIT_TIMEOUT, ENABLE_HANDOFF_TARGET, ENABLE_STOP_REASON, ENABLE_PRIORITY"),
    responses((status = 200, description = "ok, message"), (status = 400, description = "HOST and PORT are settings of the bus"), (status = 401), (status = 422)))]
pub(super) async fn write(State(app): State<Arc<App>>, mut asked: Written) -> Answer {
    if let Some(token) = &app.config.admin_token {
        let offered = asked
            .headers
            .get("x-admin-token")
            .map(axum::http::HeaderValue::as_bytes);
        let fits: bool = token.as_bytes().ct_eq(offered.unwrap_or_default()).into();
        if !fits {
            return Err(Refusal::unauthorized("Invalid admin token"));
        }
    }
    let fields = &mut asked.fields;
    let numbers = NUMBERS.map(|name| (name, fields.int(name).map(Value::from)));
    let switches = SWITCHES.map(|name| (name, fields.flag(name).map(Value::from)));
    fields.check()?;
    if fields.has("HOST") || fields.has("PORT") {
        // Saving what does not count would be a lie.
        let text = "where the bus listens is set with `listen` in agentbus.toml";
        return Err(Refusal::bad(text));
    }
    let directory = app.config.data_dir.clone();
    let settings = numbers.into_iter().chain(switches);
    let keeping = asked
        .chat
        .once(move || keep(&directory, settings).map_err(|error| not_kept(&error)));
    keeping.await?;
    let message = "Settings saved. Restart the server to apply changes.";
    Ok(Json(json!({ "ok": true, "message": message })))
}

fn not_kept(error: &std::io::Error) -> ChatError {
    ChatError::Store(match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::Full,
        _ => StoreError::Unwritable {
            reason: error.to_string(),
        },
    })
}

const FILE: &str = "settings.json";

fn kept(directory: &Path) -> Value {
    let text = std::fs::read_to_string(directory.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_else(|_| json!({}))
}

/// Writes the new settings beside those that were kept before, whole or not at all.
fn keep(
    directory: &Path,
    settings: impl Iterator<Item = (&'static str, Option<Value>)>,
) -> std::io::Result<()> {
    let mut all = kept(directory);
    for (name, value) in settings {
        if let Some(value) = value {
            all[name] = value;
        }
    }
    let draft = directory.join("settings.new");
    std::fs::write(&draft, all.to_string())?;
    std::fs::rename(draft, directory.join(FILE))
}

/// Puts the kept settings over those of the configuration.
pub(super) fn apply(directory: &Path, chat: &mut ChatConfig) {
    let kept = kept(directory);
    let seconds = |name: &str| kept[name].as_u64().map(Duration::from_secs);
    let switch = |name: &str, now: bool| kept[name].as_bool().unwrap_or(now);
    chat.heartbeat_timeout = seconds(NUMBERS[1]).unwrap_or(chat.heartbeat_timeout);
    chat.wait_timeout = seconds(NUMBERS[2]).unwrap_or(chat.wait_timeout);
    chat.enable_handoff_target = switch(SWITCHES[0], chat.enable_handoff_target);
    chat.enable_stop_reason = switch(SWITCHES[1], chat.enable_stop_reason);
    chat.enable_priority = switch(SWITCHES[2], chat.enable_priority);
}
