//! Tools of threads' settings and of who waits in them.

use std::sync::Arc;

use agentbus_chat::{
    AgentId, Chat, ClosedMeeting, Credentials, ProvenAgent, SettingsUpdate, ThreadId,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::views::{self, SettingsView};
use super::{Services, refusal, tool, writing_tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

#[derive(Debug, Deserialize, JsonSchema)]
struct Get {
    /// The thread.
    thread_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Update {
    /// The thread.
    thread_id: String,
    /// Whether the bus looks after a thread in which everyone waits for everyone.
    auto_administrator_enabled: Option<bool>,
    /// Seconds of silence before it does; at least 30.
    timeout_seconds: Option<i64>,
    /// Seconds before it proposes another administrator; at least 30.
    switch_timeout_seconds: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct CloseMeeting {
    /// The thread.
    thread_id: String,
    /// Your agent id; you administer the thread.
    agent_id: String,
    /// Your token.
    token: String,
    /// What came of it.
    summary: Option<String>,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new("thread_settings_get", "Read how a thread is administered.")
        .gives::<SettingsView>()
        .read_only();
    tool!(catalog, services, about.extended(), get)?;
    let about = Tool::new(
        "thread_settings_update",
        "Change how a thread is administered.",
    );
    writing_tool!(catalog, services, about.idempotent().extended(), update)?;
    let about = Tool::new(
        "thread_wait_state_get",
        "See which agents wait in a thread.",
    );
    tool!(catalog, services, about.read_only().extended(), waiting)?;
    let about = Tool::new(
        "close_meeting",
        "Close a thread that you administer, and tell everybody in it what came of it.",
    );
    tool!(
        catalog,
        services,
        about.idempotent().extended(),
        close_meeting
    )
}

async fn get(services: &Services, _: &Call, asked: Get) -> Result<Reply, Fault> {
    match services.chat.settings(ThreadId::new(asked.thread_id)).await {
        Ok(settings) => Ok(Reply::data(&views::settings(&settings))),
        Err(error) => refusal::answer(&error),
    }
}

async fn update(_: &Services, _: &Call, (asked, chat): (Update, Chat)) -> Result<Reply, Fault> {
    let update = SettingsUpdate {
        auto_administrator_enabled: asked.auto_administrator_enabled,
        timeout_seconds: asked.timeout_seconds,
        switch_timeout_seconds: asked.switch_timeout_seconds,
    };
    let thread = ThreadId::new(asked.thread_id);
    match chat.update_settings(thread, update).await {
        Ok(settings) => Ok(Reply::data(&json!({
            "ok": true, "auto_administrator_enabled": settings.auto_administrator_enabled,
            "timeout_seconds": settings.timeout_seconds,
            "switch_timeout_seconds": settings.switch_timeout_seconds,
        }))),
        Err(error) => refusal::answer(&error),
    }
}

async fn waiting(services: &Services, _: &Call, asked: Get) -> Result<Reply, Fault> {
    let thread = ThreadId::new(asked.thread_id);
    if let Err(error) = services.chat.thread(thread.clone()).await {
        return refusal::answer(&error);
    }
    match services.chat.waiting(Some(thread.clone())).await {
        Ok(waiting) => {
            let agents = waiting.iter().map(|one| {
                json!({ "agent_id": one.agent_id, "entered_at": one.entered_at,
                    "timeout_ms": one.timeout_ms })
            });
            let agents: Vec<Value> = agents.collect();
            let (thread, count) = (thread.to_string(), agents.len());
            Ok(Reply::data(
                &json!({ "thread_id": thread, "agents_waiting": agents, "count": count }),
            ))
        }
        Err(error) => refusal::answer(&error),
    }
}

async fn close_meeting(
    services: &Services,
    call: &Call,
    asked: CloseMeeting,
) -> Result<Reply, Fault> {
    let agent = AgentId::new(asked.agent_id);
    let proven = ProvenAgent::new(agent.clone(), &asked.token);
    let who = Credentials {
        agent_id: agent.clone(),
        token: asked.token,
    };
    if services.chat.verify(who).await.is_err() {
        let detail = json!({ "detail": "agent_id and token do not belong together" });
        return Ok(refusal::refused_with("AUTHENTICATION_REQUIRED", detail));
    }
    call.session().bind(proven);
    let id = ThreadId::new(asked.thread_id);
    if services.chat.thread(id.clone()).await.is_err() {
        let detail = json!({ "detail": format!("there is no thread `{id}`") });
        return Ok(refusal::refused_with("THREAD_NOT_FOUND", detail));
    }
    let settings = services
        .chat
        .settings(id.clone())
        .await
        .map_err(Fault::failed)?;
    let leads = [settings.creator, settings.assigned];
    if !leads.into_iter().flatten().any(|who| who.id == agent) {
        let detail = json!({ "detail": "only an administrator of the thread may close it" });
        return Ok(refusal::refused_with("FORBIDDEN", detail));
    }
    match services.chat.close_meeting(id, agent, asked.summary).await {
        Ok(ClosedMeeting {
            thread,
            already_closed,
        }) => Ok(Reply::data(&json!({
            "ok": true, "thread_id": thread.id, "status": thread.status,
            "already_closed": already_closed, "closed_sessions_count": 0,
        }))),
        Err(error) => refusal::answer(&error),
    }
}
