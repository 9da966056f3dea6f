//! Routes of messages that are there.

use std::sync::Arc;

use agentbus_chat::model::Priority;
use agentbus_chat::store::MessageQuery;
use agentbus_chat::{AgentId, AuthProblem, ChatError, MessageId, Proof, ThreadId};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::fields::Fields;
use super::refusal::Refusal;
use super::request::{Path, QueryFields, Written};
use super::views::{self, Metadata};
use crate::state::App;

type Answer = Result<Json<Value>, Refusal>;

/// Messages on a page that names no limit.
const PAGE: usize = 200;

/// How the caller wants metadata written.
pub(super) fn metadata(fields: &mut Fields) -> Metadata {
    match fields.word("metadata", &["object", "string"]).as_deref() {
        Some("string") => Metadata::Text,
        _ => Metadata::Object,
    }
}

/// Lists messages of a thread in their order.
#[utoipa::path(
    get,
    path = "/api/threads/{id}/messages",
    tag = "conversations",
    params(
        ("id" = String, Path),
        ("after_seq" = Option<i64>, Query, description = "Only messages after this number"),
        ("before_seq" = Option<i64>, Query, description = "Only messages before this number"),
        ("tail" = Option<bool>, Query, description = "The newest of them instead of the oldest"),
        ("limit" = Option<i64>, Query, description = "At most so many, up to 1000; 200 without it"),
        ("priority" = Option<String>, Query, description = "normal, urgent or system"),
        ("include_system_prompt" = Option<bool>, Query, description = "Begin with what every agent is told"),
        ("metadata" = Option<String>, Query, description = "object, or string as in AgentChatBus"),
    ),
    responses((status = 200, description = "Messages with their reactions"), (status = 400), (status = 404))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(id): Path<ThreadId>,
    query: QueryFields,
) -> Answer {
    let mut fields = query.0;
    let shown = metadata(&mut fields);
    let wanted = MessageQuery {
        after_seq: fields.int("after_seq").unwrap_or(0),
        before_seq: fields.int("before_seq"),
        newest: fields.flag("tail").unwrap_or(false),
        limit: fields.count("limit").unwrap_or(PAGE),
        priority: fields.text("priority"),
        ..MessageQuery::default()
    };
    let guidance = fields.flag("include_system_prompt").unwrap_or(false);
    fields.check()?;
    let priority = wanted.priority.as_deref();
    if let Some(unknown) = priority.filter(|word| Priority::parse(word).is_none()) {
        return Err(Refusal::bad(format!("Invalid priority filter '{unknown}'")));
    }
    let (messages, reactions) = app.chat.chat.messages(id, wanted, guidance).await?;
    let faces = app.chat.chat.faces(&messages).await?;
    let list = messages
        .iter()
        .map(|one| views::faced(views::listed(one, &reactions, shown), &faces));
    Ok(Json(Value::Array(list.collect())))
}

/// One message with its reactions.
#[utoipa::path(get, path = "/api/messages/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "The message"), (status = 404)))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<MessageId>,
    query: QueryFields,
) -> Answer {
    let mut fields = query.0;
    let shown = metadata(&mut fields);
    fields.check()?;
    let (message, reactions) = app.chat.chat.message(id).await?;
    let faces = app.chat.chat.faces(std::slice::from_ref(&message)).await?;
    let listed = views::listed(&message, &reactions, shown);
    Ok(Json(views::faced(listed, &faces)))
}

/// Replaces the text of a message; the one before is kept.
#[utoipa::path(put, path = "/api/messages/{id}", tag = "conversations",
    params(("id" = String, Path), ("X-Agent-Token" = Option<String>, Header, description = "For a message of a registered agent")),
    request_body(content = Value, description = "content* (or new_content), edited_by*"),
    responses((status = 200, description = "msg_id, version, edited_at, edited_by and the message; or no_change"), (status = 400), (status = 401), (status = 403), (status = 404), (status = 422)))]
pub(super) async fn edit(Path(id): Path<MessageId>, mut asked: Written) -> Answer {
    let fields = &mut asked.fields;
    let name = if fields.has("new_content") && !fields.has("content") {
        "new_content"
    } else {
        "content"
    };
    let content = fields.required(name);
    let edited_by = fields.required("edited_by");
    fields.check()?;
    if content.trim().is_empty() {
        return Err(Refusal::bad("content must not be empty"));
    }
    let proof = asked.agent_token().map_or(Proof::Nothing, Proof::Token);
    let edited = asked.chat.edit(id, content, edited_by, proof).await;
    let edited = edited.map_err(|error| match error {
        ChatError::Unauthenticated(AuthProblem::Missing) => Refusal::unauthorized(
            "X-Agent-Token header required to edit a message of a registered agent",
        ),
        other => other.into(),
    })?;
    if !edited.changed {
        let version = edited.message.edit_version;
        return Ok(Json(json!({ "no_change": true, "version": version })));
    }
    let more = json!({ "msg_id": edited.message.id, "version": edited.message.edit_version,
        "edited_at": edited.message.edited_at, "edited_by": edited.edited_by });
    Ok(Json(views::with(
        views::message(&edited.message, Metadata::Object),
        more,
    )))
}

/// A message's earlier texts.
#[utoipa::path(get, path = "/api/messages/{id}/history", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "message_id, current_content, edit_version, edits"), (status = 404)))]
pub(super) async fn history(State(app): State<Arc<App>>, Path(id): Path<MessageId>) -> Answer {
    let (message, edits) = app.chat.chat.history(id).await?;
    let edits: Vec<_> = edits.iter().map(views::edit).collect();
    Ok(Json(
        json!({ "message_id": message.id, "current_content": message.content,
        "edit_version": message.edit_version, "edits": edits }),
    ))
}

/// The reactions to a message.
#[utoipa::path(get, path = "/api/messages/{id}/reactions", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "Reactions; none for a message that there is not")))]
pub(super) async fn reactions(State(app): State<Arc<App>>, Path(id): Path<MessageId>) -> Answer {
    Ok(Json(json!(app.chat.chat.reactions(id).await?)))
}

/// Reacts to a message.
#[utoipa::path(post, path = "/api/messages/{id}/reactions", tag = "conversations",
    params(("id" = String, Path), ("X-Agent-Token" = Option<String>, Header, description = "Where it is shown, it is that of the agent")),
    request_body(content = Value, description = "agent_id*, reaction*"),
    responses((status = 201, description = "The reaction; the first one, if it was there"), (status = 400), (status = 401), (status = 404), (status = 422)))]
pub(super) async fn react(
    Path(id): Path<MessageId>,
    mut asked: Written,
) -> Result<Response, Refusal> {
    let agent = AgentId::new(asked.fields.required("agent_id"));
    let label = asked.fields.required("reaction");
    asked.fields.check()?;
    let label = label.trim().to_owned();
    let proof = asked.agent_token().map(Proof::Token);
    let reaction = asked.chat.react(id, Some(agent), label, proof).await?;
    Ok((StatusCode::CREATED, Json(reaction)).into_response())
}

/// Takes a reaction back.
#[utoipa::path(delete, path = "/api/messages/{id}/reactions/{reaction}", tag = "conversations",
    params(("id" = String, Path), ("reaction" = String, Path), ("agent_id" = String, Query),
        ("X-Agent-Token" = Option<String>, Header, description = "Where it is shown, it is that of the agent")),
    responses((status = 200, description = "removed, message_id, reaction, agent_id"), (status = 401), (status = 422)))]
pub(super) async fn unreact(
    Path((id, label)): Path<(MessageId, String)>,
    query: QueryFields,
    asked: Written,
) -> Answer {
    let mut fields = query.0;
    let agent = fields.required("agent_id");
    fields.check()?;
    let proof = asked.agent_token().map(Proof::Token);
    let who = AgentId::new(agent.as_str());
    let removed = asked.chat.unreact(id.clone(), who, label.clone(), proof);
    let removed = removed.await?;
    Ok(Json(
        json!({ "removed": removed, "message_id": id, "reaction": label,
        "agent_id": agent }),
    ))
}
