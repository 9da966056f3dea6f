//! Routes of threads.

use std::collections::HashMap;
use std::sync::Arc;

use agentbus_chat::model::{Thread, ThreadQuery, ThreadState};
use agentbus_chat::{
    AgentId, AuthProblem, Chat, ChatError, Credentials, NewThread, Stamp, TemplateId, ThreadId,
};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::request::{Path, QueryFields, Written};
use super::views;
use crate::state::App;

type Answer = Result<Json<Value>, Refusal>;

/// Lists threads, the newest first.
#[utoipa::path(
    get,
    path = "/api/threads",
    tag = "conversations",
    params(
        ("status" = Option<String>, Query, description = "Only threads in this state"),
        ("include_archived" = Option<bool>, Query, description = "Archived threads too"),
        ("limit" = Option<i64>, Query, description = "At most so many, up to 200; 0 for all"),
        ("before" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    responses((status = 200, description = "threads, total, has_more, next_cursor"), (status = 400, description = "The cursor is none"))
)]
pub(super) async fn list(State(app): State<Arc<App>>, query: QueryFields) -> Answer {
    let mut fields = query.0;
    let before = fields.text("before");
    let wanted = ThreadQuery {
        status: fields.text("status"),
        include_archived: fields.flag("include_archived").unwrap_or(false),
        limit: fields.count("limit").unwrap_or(0),
        before: before.as_deref().map(cursor).transpose()?,
    };
    fields.check()?;
    let page = app.chat.chat.threads(wanted).await?;
    // The time alone is the cursor that clients know; the id makes it exact when two threads share
    // a time, and is read when it is given.
    let last = page.threads.last().filter(|_| page.has_more);
    let same = |a: &Stamp| {
        page.threads
            .iter()
            .filter(|thread| thread.created_at == *a)
            .count()
            > 1
    };
    let next = last.map(|last| match same(&last.created_at) {
        true => format!("{}~{}", last.created_at, last.id),
        false => last.created_at.to_string(),
    });
    let rows = rows(&app.chat.chat, &page.threads).await?;
    Ok(Json(
        json!({ "threads": rows, "total": page.total, "has_more": page.has_more,
        "next_cursor": next }),
    ))
}

/// Threads as lists show them: with the faces of those who wait in them.
async fn rows(chat: &Chat, threads: &[Thread]) -> Result<Vec<Value>, Refusal> {
    let ids = threads.iter().map(|thread| thread.id.clone()).collect();
    let mut waiting: HashMap<_, Vec<_>> = HashMap::new();
    for (thread, agent) in chat.waiting_agents(ids).await? {
        let face =
            json!({ "id": agent.id, "display_name": agent.shown_name(), "emoji": agent.emoji() });
        waiting.entry(thread).or_default().push(face);
    }
    let rows = threads.iter().map(|thread| {
        let faces = waiting.remove(&thread.id).unwrap_or_default();
        views::with(views::thread(thread), json!({ "waiting_agents": faces }))
    });
    Ok(rows.collect())
}

/// Reads a cursor: a time, and the id of the last thread where the time does not tell.
fn cursor(text: &str) -> Result<(Stamp, Option<ThreadId>), Refusal> {
    // A `+` in a query that was not escaped arrives as a blank.
    let text = text.replace(' ', "+");
    let (time, id) = match text.split_once('~') {
        Some((time, id)) => (time, Some(ThreadId::new(id))),
        None => (text.as_str(), None),
    };
    let bad = "Invalid 'before' cursor: must be an ISO datetime string";
    let time = Stamp::parse(time).ok_or_else(|| Refusal::bad(bad))?;
    Ok((time, id))
}

/// Creates a thread, or finds the one with the topic.
#[utoipa::path(
    post,
    path = "/api/threads",
    tag = "conversations",
    params(
        ("X-Agent-Token" = String, Header, description = "The token of the creator"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeat with the same key without creating twice, for a day"),
    ),
    request_body(content = Value, description = "topic*, creator_agent_id*, metadata, system_prompt, template, workspace"),
    responses((status = 201, description = "The thread and what its creator needs to post"), (status = 401), (status = 404, description = "No such template"), (status = 422))
)]
pub(super) async fn create(mut asked: Written) -> Result<Response, Refusal> {
    let new = NewThread {
        topic: asked.fields.required("topic"),
        creator: AgentId::new(asked.fields.required("creator_agent_id")),
        metadata: asked.fields.object("metadata"),
        system_prompt: asked.fields.text("system_prompt"),
        template: asked.fields.text("template").map(TemplateId::new),
        workspace: asked.fields.text("workspace"),
    };
    asked.fields.check()?;
    prove_creator(&asked, &new.creator).await?;
    let template = new.template.clone();
    let opened = asked
        .chat
        .create_thread(new)
        .await
        .map_err(|error| match (error, template) {
            (ChatError::TemplateNotFound(_), Some(id)) => {
                Refusal::not_found(format!("Thread template '{id}' not found."))
            }
            (error, _) => error.into(),
        })?;
    let body = views::with(views::thread(&opened.thread), views::sync(&opened.sync));
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

async fn prove_creator(asked: &Written, creator: &AgentId) -> Result<(), Refusal> {
    let Some(token) = asked.agent_token() else {
        let text = "X-Agent-Token header required to create thread as a registered agent";
        return Err(Refusal::unauthorized(text));
    };
    let known = asked.chat.agent(creator.clone()).await;
    if matches!(known, Err(ChatError::AgentNotFound(_))) {
        return Err(Refusal::unauthorized(AuthProblem::Creator.to_string()));
    }
    let who = Credentials {
        agent_id: creator.clone(),
        token,
    };
    match asked.chat.verify(who).await {
        Err(ChatError::Unauthenticated(_)) => {
            Err(Refusal::unauthorized(AuthProblem::Token.to_string()))
        }
        other => Ok(other.map(|_| ())?),
    }
}

/// One thread, with who waits in it.
#[utoipa::path(get, path = "/api/threads/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "The thread, message_count, current waiters"), (status = 404)))]
pub(super) async fn get(State(app): State<Arc<App>>, Path(id): Path<ThreadId>) -> Answer {
    let chat = &app.chat.chat;
    let (thread, count) = chat.thread_and_count(id.clone()).await?;
    let waiting = chat.waiting(Some(id)).await?;
    let more = json!({ "message_count": count, "waiting_agents": waiting });
    Ok(Json(views::with(views::thread(&thread), more)))
}

/// Removes a thread and everything in it.
#[utoipa::path(delete, path = "/api/threads/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "ok, deleted"), (status = 404)))]
pub(super) async fn delete(Path(id): Path<ThreadId>, asked: Written) -> Answer {
    let deleted = asked.chat.delete_thread(id).await?;
    Ok(Json(json!({ "ok": true, "deleted": deleted })))
}

/// Sets the state of a thread.
#[utoipa::path(post, path = "/api/threads/{id}/state", tag = "conversations", params(("id" = String, Path)),
    request_body(content = Value, description = "state*"),
    responses((status = 200, description = "ok"), (status = 400, description = "No such state"), (status = 404)))]
pub(super) async fn state(Path(id): Path<ThreadId>, mut asked: Written) -> Answer {
    let word = asked.fields.required("state");
    asked.fields.check()?;
    let Some(state) = ThreadState::parse(&word) else {
        // A thread that there is not is the greater mistake.
        asked.chat.thread(id).await?;
        let known = ThreadState::ALL
            .map(|state| format!("'{}'", state.as_str()))
            .join(", ");
        return Err(Refusal::bad(format!(
            "Invalid state '{word}'. Must be one of {{{known}}}"
        )));
    };
    asked.chat.set_state(id, state).await?;
    Ok(Json(json!({ "ok": true })))
}

/// Closes a thread.
#[utoipa::path(post, path = "/api/threads/{id}/close", tag = "conversations", params(("id" = String, Path)),
    request_body(content = Value, description = "summary"),
    responses((status = 200, description = "ok, thread_id, status"), (status = 404)))]
pub(super) async fn close(Path(id): Path<ThreadId>, mut asked: Written) -> Answer {
    let summary = asked.fields.text("summary");
    asked.fields.check()?;
    let thread = asked.chat.close_thread(id, summary).await?;
    Ok(Json(
        json!({ "ok": true, "thread_id": thread.id, "status": thread.status }),
    ))
}

/// Hides a thread from lists.
#[utoipa::path(post, path = "/api/threads/{id}/archive", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "ok"), (status = 404)))]
pub(super) async fn archive(Path(id): Path<ThreadId>, asked: Written) -> Answer {
    asked.chat.archive(id).await?;
    Ok(Json(json!({ "ok": true })))
}

/// Brings a thread back into discussion.
#[utoipa::path(post, path = "/api/threads/{id}/unarchive", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "ok"), (status = 404)))]
pub(super) async fn unarchive(Path(id): Path<ThreadId>, asked: Written) -> Answer {
    asked.chat.unarchive(id).await?;
    Ok(Json(json!({ "ok": true })))
}

/// Gives a thread another topic.
#[utoipa::path(post, path = "/api/threads/{id}/rename", tag = "conversations", params(("id" = String, Path)),
    request_body(content = Value, description = "topic*"),
    responses((status = 200, description = "ok, thread"), (status = 400), (status = 404), (status = 409, description = "The topic is taken")))]
pub(super) async fn rename(Path(id): Path<ThreadId>, mut asked: Written) -> Answer {
    let topic = asked.fields.required("topic");
    asked.fields.check()?;
    let thread = asked.chat.rename(id, topic).await?;
    Ok(Json(
        json!({ "ok": true, "thread": views::thread(&thread) }),
    ))
}

/// Gives out what a strict post needs.
#[utoipa::path(post, path = "/api/threads/{id}/sync-context", tag = "conversations", params(("id" = String, Path)),
    request_body(content = Value, description = "agent_id, or no body"),
    responses((status = 200, description = "current_seq, reply_token, reply_window"), (status = 404)))]
pub(super) async fn sync_context(Path(id): Path<ThreadId>, mut asked: Written) -> Answer {
    let agent = asked.fields.text("agent_id").map(AgentId::new);
    asked.fields.check()?;
    let context = asked.chat.sync_context(id, agent).await?;
    Ok(Json(views::sync(&context)))
}

/// The agents that wrote in a thread or administer it.
#[utoipa::path(get, path = "/api/threads/{id}/agents", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "Agents"), (status = 404)))]
pub(super) async fn agents(State(app): State<Arc<App>>, Path(id): Path<ThreadId>) -> Answer {
    let chat = &app.chat.chat;
    let found = chat
        .agents_of(id.clone())
        .await
        .map_err(|error| match error {
            ChatError::ThreadNotFound(_) => Refusal::detail(
                StatusCode::NOT_FOUND,
                json!({ "message": "Thread not found", "thread_id": id }),
            ),
            other => other.into(),
        })?;
    Ok(Json(super::agents::listed(chat, &found).await?))
}

/// A thread as a document: Markdown, or everything as JSON with `?format=json`.
#[utoipa::path(get, path = "/api/threads/{id}/export", tag = "conversations",
    params(("id" = String, Path), ("format" = Option<String>, Query, description = "md or json")),
    responses((status = 200, description = "The document", content_type = "text/markdown", body = String), (status = 404)))]
pub(super) async fn export(
    State(app): State<Arc<App>>,
    Path(id): Path<ThreadId>,
    query: QueryFields,
) -> Result<Response, Refusal> {
    let mut fields = query.0;
    let format = fields.word("format", &["md", "json"]);
    fields.check()?;
    let (name, kind, text) = document(&app.chat.chat, id, format.as_deref()).await?;
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, text).into_response())
}

async fn document(
    chat: &Chat,
    id: ThreadId,
    format: Option<&str>,
) -> Result<(String, &'static str, String), Refusal> {
    if format == Some("json") {
        let (name, value) = chat.export_json(id).await?;
        return Ok((name, "application/json", value.to_string()));
    }
    let (name, text) = chat.export_markdown(id).await?;
    Ok((name, "text/markdown; charset=utf-8", text))
}
