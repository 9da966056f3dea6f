//! Routes of the registry.

use std::collections::HashSet;
use std::sync::Arc;

use agentbus::Context;
use agentbus_chat::model::Agent;
use agentbus_chat::{
    AgentId, AgentUpdate, AuthProblem, Chat, ChatError, Credentials, NewAgent, Registered, Stamp,
};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::paging::{self, Wanted};
use super::refusal::Refusal;
use super::request::{Path, QueryFields, Written};
use super::views;
use crate::idempotency::{Asked, Stored};
use crate::state::App;

type Answer = Result<Json<Value>, Refusal>;

/// Agents, in the order in which they registered.
#[utoipa::path(get, path = "/api/agents", tag = "conversations",
    params(
        ("limit" = Option<i64>, Query, description = "At most so many; all without it"),
        ("cursor" = Option<String>, Query, description = "The `X-Next-Cursor` of the page before"),
    ),
    responses((status = 200, description = "Agents; X-Next-Cursor if there are more"), (status = 400, description = "The cursor is none")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: QueryFields,
) -> Result<Response, Refusal> {
    let mut fields = query.0;
    let wanted = Wanted::of(&mut fields)?;
    let chat = &app.chat.chat;
    let mut agents = chat.agents().await?;
    if let Some(after) = wanted.after() {
        let last = place(after).ok_or_else(paging::no_cursor)?;
        agents.drain(..passed(&agents, &last));
    }
    let (page, next) = wanted.cut(agents, |one| format!("{}~{}", one.registered_at, one.id));
    Ok(next.beside(listed(chat, &page).await?))
}

/// When the last agent of a page registered, and which it was.
fn place(cursor: &str) -> Option<(Stamp, AgentId)> {
    let (at, id) = cursor.split_once('~')?;
    Some((Stamp::parse(at)?, AgentId::new(id)))
}

/// How many agents were shown up to this one. If it has left, those of its microsecond come again,
/// rather than not at all.
fn passed(agents: &[Agent], (at, id): &(Stamp, AgentId)) -> usize {
    let known = agents.iter().position(|agent| agent.id == *id);
    known.map_or_else(
        || agents.partition_point(|agent| agent.registered_at < *at),
        |known| known + 1,
    )
}

/// Agents as lists show them. Connected is who waits: the newer releases ask the same of sessions.
pub(super) async fn listed(chat: &Chat, agents: &[Agent]) -> Result<Value, Refusal> {
    let waiting = chat.waiting(None).await?;
    let waiting: HashSet<_> = waiting.iter().map(|wait| &wait.agent_id).collect();
    let list = agents.iter().map(|agent| {
        let connected = json!({ "is_sse_connected": waiting.contains(&agent.id) });
        views::with(shown(chat, agent), connected)
    });
    Ok(Value::Array(list.collect()))
}

fn shown(chat: &Chat, agent: &Agent) -> Value {
    let online = agent.is_online(chat.now(), chat.config().heartbeat_timeout);
    views::agent(agent, online)
}

/// One agent.
#[utoipa::path(get, path = "/api/agents/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "The agent"), (status = 404)))]
pub(super) async fn get(State(app): State<Arc<App>>, Path(id): Path<AgentId>) -> Answer {
    let chat = &app.chat.chat;
    let agent = chat.agent(id).await?;
    let more = json!({ "registered_at": agent.registered_at });
    Ok(Json(views::with(shown(chat, &agent), more)))
}

/// Registers an agent. The only answer that holds its token.
#[utoipa::path(post, path = "/api/agents/register", tag = "conversations",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeat with the same key without registering twice, for ten minutes")),
    request_body(content = Value, description = "ide*, model*, description, capabilities, skills, display_name, emoji"),
    responses((status = 200, description = "agent_id, token and the agent"), (status = 422)))]
pub(super) async fn register(
    State(app): State<Arc<App>>,
    mut asked: Written,
) -> Result<Response, Refusal> {
    let fields = &mut asked.fields;
    let new = NewAgent {
        ide: fields.required("ide"),
        model: fields.required("model"),
        description: fields.text("description"),
        capabilities: fields.texts("capabilities").unwrap_or_default(),
        skills: fields.list("skills").unwrap_or_default(),
        display_name: fields.text("display_name"),
        emoji: fields.text("emoji"),
    };
    fields.check()?;
    let run = async {
        match app.chat.chat.register(new).await {
            Ok(registered) => stored(StatusCode::OK, &welcome(&registered)),
            Err(error) => {
                let refusal = Refusal::from(error);
                stored(refusal.status(), &refusal.into_body())
            }
        }
    };
    let Some(key) = asked.headers.get("idempotency-key") else {
        return Ok(run.await.into_response());
    };
    // The answer holds a secret, so it is remembered in memory and not in the database.
    let request = Asked {
        route: "register",
        body: &asked.body,
        context: &Context::default(),
    };
    let key = key.to_str().unwrap_or_default();
    Ok(app.outcomes.once(key, request, run).await?.into_response())
}

fn stored(status: StatusCode, body: &Value) -> Stored {
    Stored::json(status, body.to_string())
}

fn welcome(registered: &Registered) -> Value {
    let agent = &registered.agent;
    json!({
        "ok": true, "id": agent.id, "agent_id": agent.id, "name": agent.name,
        "display_name": agent.shown_name(), "alias_source": agent.alias_source,
        "preferred_display_name": agent.shown_name(),
        "configured_display_name": agent.configured_name(),
        "emoji": agent.emoji(), "token": registered.token,
        "capabilities": agent.capabilities, "skills": agent.skills,
    })
}

fn credentials(asked: &mut Written) -> Result<Credentials, Refusal> {
    let who = Credentials {
        agent_id: AgentId::new(asked.fields.required("agent_id")),
        token: asked.fields.required("token"),
    };
    asked.fields.check()?;
    Ok(who)
}

/// Notes that an agent lives.
#[utoipa::path(post, path = "/api/agents/heartbeat", tag = "conversations",
    request_body(content = Value, description = "agent_id*, token*"),
    responses((status = 200, description = "ok"), (status = 401)))]
pub(super) async fn heartbeat(mut asked: Written) -> Answer {
    let who = credentials(&mut asked)?;
    asked.chat.heartbeat(who).await?;
    Ok(Json(json!({ "ok": true })))
}

/// Brings an agent back.
#[utoipa::path(post, path = "/api/agents/resume", tag = "conversations",
    request_body(content = Value, description = "agent_id*, token*"),
    responses((status = 200, description = "ok and the agent"), (status = 401)))]
pub(super) async fn resume(mut asked: Written) -> Answer {
    let who = credentials(&mut asked)?;
    let agent = asked.chat.resume(who).await?;
    Ok(Json(json!({
        "ok": true, "agent_id": agent.id, "name": agent.name,
        "display_name": agent.shown_name(), "alias_source": agent.alias_source,
        "emoji": agent.emoji(), "is_online": true, "last_heartbeat": agent.last_heartbeat,
    })))
}

/// Removes an agent.
#[utoipa::path(post, path = "/api/agents/unregister", tag = "conversations",
    request_body(content = Value, description = "agent_id*, token*"),
    responses((status = 200, description = "ok"), (status = 401)))]
pub(super) async fn unregister(mut asked: Written) -> Answer {
    let who = credentials(&mut asked)?;
    asked.chat.unregister(who).await?;
    Ok(Json(json!({ "ok": true })))
}

/// Changes what an agent says about itself.
#[utoipa::path(put, path = "/api/agents/{id}", tag = "conversations", params(("id" = String, Path)),
    request_body(content = Value, description = "token*, description, capabilities, skills, display_name, emoji"),
    responses((status = 200, description = "ok and the agent"), (status = 401), (status = 404)))]
pub(super) async fn update(Path(id): Path<AgentId>, mut asked: Written) -> Answer {
    let fields = &mut asked.fields;
    let who = Credentials {
        agent_id: id.clone(),
        token: fields.required("token"),
    };
    let update = AgentUpdate {
        description: fields.text("description"),
        capabilities: fields.texts("capabilities"),
        skills: fields.list("skills"),
        display_name: fields.text("display_name"),
        emoji: fields.text("emoji"),
    };
    fields.check()?;
    let agent = asked
        .chat
        .update_agent(who, update)
        .await
        .map_err(|error| match error {
            ChatError::AgentNotFound(_) => Refusal::not_found(format!("Agent not found: {id}")),
            ChatError::Unauthenticated(AuthProblem::Credentials) => {
                Refusal::unauthorized("Invalid token for agent_update")
            }
            other => other.into(),
        })?;
    Ok(Json(json!({
        "ok": true, "agent_id": agent.id, "name": agent.name,
        "display_name": agent.shown_name(), "emoji": agent.emoji(),
        "description": agent.description, "capabilities": agent.capabilities,
        "skills": agent.skills, "last_activity": agent.last_activity,
    })))
}

/// Sends an agent away: its waits end, and its token is worth nothing any more.
#[utoipa::path(post, path = "/api/agents/{id}/kick", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "ok, agent_id, agent_name, threads_interrupted"), (status = 404)))]
pub(super) async fn kick(Path(id): Path<AgentId>, asked: Written) -> Answer {
    let kicked = asked.chat.kick(id).await?;
    let (name, waits) = (kicked.agent.shown_name(), kicked.threads.len());
    Ok(Json(json!({
        "ok": true, "agent_id": kicked.agent.id, "agent_name": name,
        "threads_interrupted": kicked.threads, "sessions_disconnected_count": 0,
        "message": format!("Agent {name} has been kicked offline. Interrupted {waits} \
            msg_wait(s), disconnected 0 session(s)."),
    })))
}
