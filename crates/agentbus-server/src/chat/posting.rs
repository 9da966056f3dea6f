//! Posting over HTTP: relaxed unless both fields of a strict post are given.

use agentbus_chat::model::{Priority, Role};
use agentbus_chat::{AuthProblem, ChatError, Draft, MessageId, Posted, Proof, Sync, ThreadId};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::messages::metadata;
use super::refusal::Refusal;
use super::request::{Path, QueryFields, Written};
use super::views;

/// Posts a message.
#[utoipa::path(
    post,
    path = "/api/threads/{id}/messages",
    tag = "conversations",
    params(
        ("id" = String, Path),
        ("X-Agent-Token" = Option<String>, Header, description = "The author's token, if it is a registered agent"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeat with the same key without posting twice, for a day"),
        ("metadata" = Option<String>, Query, description = "object, or string as in AgentChatBus"),
    ),
    request_body(content = Value, description = "content*, author, role, expected_last_seq, reply_token, mentions, metadata, images, priority, reply_to_msg_id"),
    responses(
        (status = 201, description = "The message, stored; after a strict post of an agent also what the next one needs"),
        (status = 400, description = "TOKEN_INVALID, TOKEN_REPLAY, THREAD_CLOSED, a filtered or wrong message"),
        (status = 401), (status = 404), (status = 409, description = "SEQ_MISMATCH, with what is new"),
        (status = 413), (status = 422), (status = 429, description = "Rate limit exceeded"),
    )
)]
pub(super) async fn post(
    Path(thread): Path<ThreadId>,
    query: QueryFields,
    mut asked: Written,
) -> Result<Response, Refusal> {
    let mut options = query.0;
    let shown = metadata(&mut options);
    options.check()?;
    let draft = draft(thread, &mut asked)?;
    if draft.author == "human" && draft.role == Role::System {
        // The thread must be there first; then the mistake is the role.
        asked.chat.thread(draft.thread_id).await?;
        let text = "role 'system' is not allowed for human messages";
        return Err(Refusal::bad(text));
    }
    let posted = asked.chat.post(draft).await.map_err(worded)?;
    let Posted { message, next } = &posted;
    // It is stored, so that nothing may be wrong with the answer any more.
    let faces = asked.chat.faces(std::slice::from_ref(message)).await;
    let faces = faces.unwrap_or_default();
    let mut body = views::faced(views::message(message, shown), &faces);
    if let Some(next) = next {
        body = views::with(body, views::sync(next));
    }
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

fn draft(thread: ThreadId, asked: &mut Written) -> Result<Draft, Refusal> {
    let proof = asked.agent_token().map_or(Proof::Nothing, Proof::Token);
    let fields = &mut asked.fields;
    let content = fields.required("content");
    let author = fields.text("author").filter(|author| !author.is_empty());
    let mut draft = Draft::new(
        thread,
        author.unwrap_or_else(|| "human".to_owned()),
        content,
    );
    draft.proof = proof;
    let role = fields.word("role", Role::WORDS);
    let priority = fields.word("priority", Priority::WORDS);
    draft.role = role.as_deref().and_then(Role::parse).unwrap_or(Role::User);
    draft.priority = priority
        .as_deref()
        .and_then(Priority::parse)
        .unwrap_or(Priority::Normal);
    draft.metadata = fields.object("metadata");
    draft.reply_to = fields.text("reply_to_msg_id").map(MessageId::new);
    let lists = [
        ("mentions", fields.texts("mentions").map(|list| json!(list))),
        ("images", fields.list("images").map(Value::Array)),
    ];
    for (name, list) in lists {
        if let Some(list) = list.filter(|list| list.as_array().is_some_and(|one| !one.is_empty())) {
            draft.merge_metadata(name, list);
        }
    }
    let (expected, token) = (fields.int("expected_last_seq"), fields.text("reply_token"));
    if expected.is_some() && token.is_some() {
        draft.sync = Sync::Strict {
            expected_last_seq: expected,
            reply_token: token,
        };
    }
    fields.check()?;
    Ok(draft)
}

fn worded(error: ChatError) -> Refusal {
    match error {
        ChatError::Unauthenticated(AuthProblem::Missing) => {
            Refusal::unauthorized("X-Agent-Token header required to post as a registered agent")
        }
        other => other.into(),
    }
}
