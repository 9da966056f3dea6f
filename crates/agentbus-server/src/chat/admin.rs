//! Routes of a thread's settings and administrator.

use std::collections::HashMap;
use std::sync::Arc;

use agentbus_chat::model::{AdminKind, ThreadSettings};
use agentbus_chat::{
    AgentId, Chat, ChatError, Decided, Decision, DecisionAction, MessageId, SettingsUpdate,
    ThreadId,
};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::request::{Path, Written};
use super::views;
use crate::state::App;

type Answer = Result<Json<Value>, Refusal>;

/// The settings of a thread.
#[utoipa::path(get, path = "/api/threads/{id}/settings", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "The settings"), (status = 404)))]
pub(super) async fn settings(State(app): State<Arc<App>>, Path(id): Path<ThreadId>) -> Answer {
    let chat = &app.chat.chat;
    let settings = chat.settings(id).await?;
    let faces = faces(chat, &settings).await?;
    Ok(Json(views::settings(&settings, &faces)))
}

/// Changes the settings of a thread.
#[utoipa::path(post, path = "/api/threads/{id}/settings", tag = "conversations", params(("id" = String, Path)),
    request_body(content = Value, description = "auto_administrator_enabled, timeout_seconds, switch_timeout_seconds"),
    responses((status = 200, description = "The settings"), (status = 400, description = "A timeout is too short"), (status = 404)))]
pub(super) async fn update_settings(Path(id): Path<ThreadId>, mut asked: Written) -> Answer {
    let fields = &mut asked.fields;
    let enabled = fields.flag("auto_administrator_enabled");
    let update = SettingsUpdate {
        auto_administrator_enabled: enabled.or_else(|| fields.flag("auto_coordinator_enabled")),
        timeout_seconds: fields.int("timeout_seconds"),
        switch_timeout_seconds: fields.int("switch_timeout_seconds"),
    };
    fields.check()?;
    let settings = asked.chat.update_settings(id, update).await?;
    // It is stored, so that nothing may be wrong with the answer any more.
    let faces = faces(&asked.chat, &settings).await.unwrap_or_default();
    Ok(Json(views::settings(&settings, &faces)))
}

/// The faces that the administrators in the settings chose for themselves.
async fn faces(
    chat: &Chat,
    settings: &ThreadSettings,
) -> Result<HashMap<String, String>, ChatError> {
    let named = settings.assigned.iter().chain(&settings.creator);
    let agents = named.map(|who| who.id.clone()).collect();
    chat.faces_of(agents).await
}

/// Who administers a thread.
#[utoipa::path(get, path = "/api/threads/{id}/admin", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "admin_id, admin_name, admin_emoji, admin_type, assigned_at"), (status = 404)))]
pub(super) async fn admin(State(app): State<Arc<App>>, Path(id): Path<ThreadId>) -> Answer {
    let chat = &app.chat.chat;
    let admin = chat.admin(id).await?;
    let kind = admin.as_ref().map(|admin| match admin.kind {
        AdminKind::Creator => "creator",
        AdminKind::AutoAssigned => "auto_assigned",
    });
    let who = admin.as_ref().map(|admin| &admin.who);
    let agents = who.iter().map(|who| who.id.clone()).collect();
    let faces = chat.faces_of(agents).await?;
    Ok(Json(json!({
        "admin_id": who.map(|who| &who.id),
        "admin_name": who.and_then(|who| who.name.as_deref()),
        "admin_emoji": who.map(|who| views::face(&who.id, &faces)),
        "admin_type": kind, "assigned_at": who.and_then(|who| who.at),
    })))
}

/// Decides what a card of the coordinator asks.
#[utoipa::path(post, path = "/api/threads/{id}/admin/decision", tag = "conversations", params(("id" = String, Path)),
    request_body(content = Value, description = "action*: switch, keep, takeover or cancel; candidate_admin_id, source_message_id"),
    responses((status = 200, description = "What was decided; already_decided if somebody else had before"), (status = 400), (status = 404), (status = 409, description = "The coordinator is switched off")))]
pub(super) async fn decision(Path(id): Path<ThreadId>, mut asked: Written) -> Answer {
    let words = ["switch", "keep", "takeover", "cancel"];
    let fields = &mut asked.fields;
    let action = fields.word("action", &words);
    if action.is_none() && !fields.has("action") {
        fields.missing("action");
    }
    let candidate = fields.text("candidate_admin_id").map(AgentId::new);
    let source = fields.text("source_message_id").map(MessageId::new);
    fields.check()?;
    let action = action.as_deref().and_then(DecisionAction::parse);
    let action = action.ok_or_else(|| Refusal::bad("action must be a word"))?;
    let decided = asked.chat.decide(Decision {
        thread_id: id,
        action,
        candidate,
        source,
    });
    let decided = decided.await.map_err(|error| worded(error, action))?;
    Ok(Json(outcome(&decided)))
}

fn worded(error: ChatError, action: DecisionAction) -> Refusal {
    match (error, action) {
        (ChatError::MessageNotFound(_), _) => Refusal::not_found("source_message_id not found"),
        (ChatError::AgentNotFound(_), DecisionAction::Takeover) => {
            Refusal::not_found("Takeover administrator agent not found")
        }
        (ChatError::AgentNotFound(_), _) => Refusal::not_found("Candidate admin agent not found"),
        (error, _) => error.into(),
    }
}

fn outcome(decided: &Decided) -> Value {
    let common = json!({ "ok": true, "action": decided.action, "thread_id": decided.thread_id,
        "already_decided": decided.already_decided });
    if decided.already_decided {
        let more = json!({ "source_message_id": decided.source, "decided_at": decided.decided_at });
        return views::with(common, more);
    }
    let id = decided.agent.as_ref().map(|who| &who.id);
    let name = decided.agent.as_ref().and_then(|who| who.name.as_deref());
    let more = match decided.action {
        DecisionAction::Switch => json!({ "new_admin_id": id, "new_admin_name": name }),
        DecisionAction::Keep => json!({ "kept_admin_id": id, "kept_admin_name": name }),
        DecisionAction::Takeover => {
            json!({ "notified_admin_id": id, "notified_admin_name": name })
        }
        DecisionAction::Cancel => json!({}),
    };
    views::with(common, more)
}
