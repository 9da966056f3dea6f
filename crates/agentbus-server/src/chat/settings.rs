//! Settings in the words of AgentChatBus. What is changed here is kept in `settings.json` in the
//! data directory, and counts over the configuration file from the next start on.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentbus_chat::store::StoreError;
use agentbus_chat::{ChatConfig, ChatError};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::fields::Fields;
use super::refusal::Refusal;
use super::request::Written;
use crate::state::App;

type Answer = Result<Json<Value>, Refusal>;

/// A setting that can be changed here.
struct Setting {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    /// A number that is not negative.
    Number(fn(&mut ChatConfig, u64)),
    Switch(fn(&mut ChatConfig, bool)),
}

const SETTINGS: [Setting; 8] = [
    number("AGENT_HEARTBEAT_TIMEOUT", |chat, seconds| {
        chat.heartbeat_timeout = Duration::from_secs(seconds);
    }),
    number("MSG_WAIT_TIMEOUT", |chat, seconds| {
        chat.wait_timeout = Duration::from_secs(seconds);
    }),
    number("SEQ_TOLERANCE", |chat, numbers| {
        chat.seq_tolerance = i64::try_from(numbers).unwrap_or(i64::MAX);
    }),
    number("SEQ_MISMATCH_MAX_MESSAGES", |chat, messages| {
        chat.mismatch_messages_max = usize::try_from(messages).unwrap_or(usize::MAX);
    }),
    switch("EXPOSE_THREAD_RESOURCES", |chat, on| {
        chat.expose_thread_resources = on;
    }),
    switch("ENABLE_HANDOFF_TARGET", |chat, on| {
        chat.enable_handoff_target = on;
    }),
    switch("ENABLE_STOP_REASON", |chat, on| {
        chat.enable_stop_reason = on;
    }),
    switch("ENABLE_PRIORITY", |chat, on| chat.enable_priority = on),
];

const fn number(name: &'static str, set: fn(&mut ChatConfig, u64)) -> Setting {
    let kind = Kind::Number(set);
    Setting { name, kind }
}

const fn switch(name: &'static str, set: fn(&mut ChatConfig, bool)) -> Setting {
    let kind = Kind::Switch(set);
    Setting { name, kind }
}

/// What is said when settings were saved.
pub(super) const SAVED: &str = "Settings saved. Restart the server to apply changes.";

/// The settings.
#[utoipa::path(get, path = "/api/settings", tag = "conversations", responses((status = 200, description = "The settings")))]
pub(super) async fn read(State(app): State<Arc<App>>) -> Json<Value> {
    let listen = (app.address.ip(), app.address.port());
    Json(shown(listen, app.chat.chat.config()))
}

/// Settings by their names.
pub(super) fn shown((host, port): (IpAddr, u16), chat: &ChatConfig) -> Value {
    json!({
        "HOST": host, "PORT": port,
        "AGENT_HEARTBEAT_TIMEOUT": chat.heartbeat_timeout.as_secs(),
        "MSG_WAIT_TIMEOUT": chat.wait_timeout.as_secs(), "REPLY_TOKEN_LEASE_SECONDS": 3600,
        "SEQ_TOLERANCE": chat.seq_tolerance,
        "SEQ_MISMATCH_MAX_MESSAGES": chat.mismatch_messages_max,
        "EXPOSE_THREAD_RESOURCES": chat.expose_thread_resources,
        "ENABLE_HANDOFF_TARGET": chat.enable_handoff_target,
        "ENABLE_STOP_REASON": chat.enable_stop_reason, "ENABLE_PRIORITY": chat.enable_priority,
    })
}

/// The settings from the next start on, and those of them that were kept here.
pub(super) async fn coming(app: &App) -> (ChatConfig, Value) {
    let text = tokio::fs::read_to_string(app.config.data_dir.join(FILE)).await;
    let kept = kept_in(&text.unwrap_or_default());
    let mut chat = app.chat.chat.config().clone();
    put_over(&mut chat, &kept);
    (chat, kept)
}

/// Keeps settings for the next start.
#[utoipa::path(put, path = "/api/settings", tag = "conversations",
    params(
        ("X-Admin-Token" = Option<String>, Header, description = "Where one is configured"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeat with the same key without saving twice, for a day"),
    ),
    request_body(content = Value, description = "AGENT_HEARTBEAT_TIMEOUT, MSG_WAIT_TIMEOUT, SEQ_TOLERANCE, SEQ_MISMATCH_MAX_MESSAGES, EXPOSE_THREAD_RESOURCES, ENABLE_HANDOFF_TARGET, ENABLE_STOP_REASON, ENABLE_PRIORITY"),
    responses((status = 200, description = "ok, message"), (status = 400, description = "One that cannot be changed here: detail, errors. Nothing is saved"), (status = 401), (status = 422)))]
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
    let settings = changed(&mut asked.fields)?;
    let directory = app.config.data_dir.clone();
    let keeping = asked
        .chat
        .once(move || keep(&directory, settings).map_err(|error| not_kept(&error)));
    keeping.await?;
    Ok(Json(json!({ "ok": true, "message": SAVED })))
}

/// What a request changes. Saving what does not count would be a lie, so nothing is saved then.
fn changed(fields: &mut Fields) -> Result<Vec<(&'static str, Value)>, Refusal> {
    let mut changed = Vec::new();
    // Of another type it is the greater mistake.
    let _ = fields.int("PORT");
    let mut errors: Vec<_> = fields.names().filter_map(not_here).collect();
    for Setting { name, kind } in &SETTINGS {
        let value = match kind {
            Kind::Number(_) => fields.int(name).map(Value::from),
            Kind::Switch(_) => fields.flag(name).map(Value::from),
        };
        if value
            .as_ref()
            .and_then(Value::as_i64)
            .is_some_and(|value| value < 0)
        {
            errors.push(format!("{name} cannot be negative"));
        }
        changed.extend(value.map(|value| (*name, value)));
    }
    fields.check()?;
    match errors.is_empty() {
        true => Ok(changed),
        false => Err(Refusal::bad_for(&errors)),
    }
}

/// Why a setting cannot be changed here, if it cannot.
pub(super) fn not_here(name: &str) -> Option<String> {
    if SETTINGS.iter().any(|setting| setting.name == name) {
        return None;
    }
    Some(match name {
        "HOST" | "PORT" => "where the bus listens is set with `listen` in agentbus.toml".to_owned(),
        "REPLY_TOKEN_LEASE_SECONDS" => "a reply token always lives for 3600 s".to_owned(),
        _ => {
            let name: String = name.chars().take(100).collect();
            format!("there is no setting {name}; GET /api/settings shows those that there are")
        }
    })
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
    kept_in(&std::fs::read_to_string(directory.join(FILE)).unwrap_or_default())
}

fn kept_in(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!({}))
}

/// Writes the new settings beside those that were kept before, whole or not at all.
fn keep(directory: &Path, settings: Vec<(&'static str, Value)>) -> std::io::Result<()> {
    let mut all = kept(directory);
    for (name, value) in settings {
        all[name] = value;
    }
    let draft = directory.join("settings.new");
    std::fs::write(&draft, all.to_string())?;
    std::fs::rename(draft, directory.join(FILE))
}

/// Puts the kept settings over those of the configuration.
pub(super) fn apply(directory: &Path, chat: &mut ChatConfig) {
    put_over(chat, &kept(directory));
}

fn put_over(chat: &mut ChatConfig, kept: &Value) {
    for Setting { name, kind } in &SETTINGS {
        match (kind, &kept[*name]) {
            (Kind::Number(set), Value::Number(value)) => {
                value
                    .as_u64()
                    .into_iter()
                    .for_each(|value| set(chat, value));
            }
            (Kind::Switch(set), Value::Bool(value)) => set(chat, *value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_counts_from_the_next_start_on() {
        let directory = tempfile::tempdir().unwrap();
        let new = [
            ("AGENT_HEARTBEAT_TIMEOUT", json!(41)),
            ("MSG_WAIT_TIMEOUT", json!(42)),
            ("SEQ_TOLERANCE", json!(43)),
            ("SEQ_MISMATCH_MAX_MESSAGES", json!(44)),
            ("EXPOSE_THREAD_RESOURCES", json!(true)),
            ("ENABLE_HANDOFF_TARGET", json!(false)),
            ("ENABLE_STOP_REASON", json!(false)),
            ("ENABLE_PRIORITY", json!(false)),
        ];
        assert!(
            new.iter()
                .map(|(name, _)| *name)
                .eq(SETTINGS.iter().map(|one| one.name))
        );
        // One after the other: what was kept before stays.
        for setting in new {
            keep(directory.path(), vec![setting]).unwrap();
        }
        let mut chat = ChatConfig {
            enable_handoff_target: true,
            enable_stop_reason: true,
            enable_priority: true,
            ..ChatConfig::default()
        };
        apply(directory.path(), &mut chat);
        let seconds = [chat.heartbeat_timeout, chat.wait_timeout].map(|time| time.as_secs());
        assert_eq!(seconds, [41, 42]);
        assert_eq!((chat.seq_tolerance, chat.mismatch_messages_max), (43, 44));
        assert!(chat.expose_thread_resources);
        assert!(!chat.enable_handoff_target && !chat.enable_stop_reason && !chat.enable_priority);
    }
}
