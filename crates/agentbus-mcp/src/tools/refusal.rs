//! What an agent is told when a conversation refuses: an object with `error`, as agents of
//! AgentChatBus know it. It is an answer and no failure, because the agent can put it right.

use agentbus_chat::ChatError;
use agentbus_chat::model::Message;
use agentbus_chat::store::StoreError;
use serde_json::{Value, json};

use crate::{Fault, Reply};

/// What to do about a reply token that is of no use.
const GET_A_TOKEN: &str = "The reply token cannot be used any more. Call msg_wait now to get a \
fresh one, then post.";

/// What to do when others have posted in between.
const READ_FIRST: &str = "Nothing was posted: others have written since you looked. Read \
new_messages_1st_read, call msg_wait for a fresh reply_token, which shows them once more, and then \
write a message that takes them into account.";

/// An answer that says what was refused.
pub(super) fn refused(error: &str) -> Reply {
    Reply::data(&json!({ "error": error }))
}

/// The same with more to it.
pub(super) fn refused_with(error: &str, mut more: Value) -> Reply {
    more["error"] = json!(error);
    Reply::data(&more)
}

/// An error of the conversations as an answer; what the agent can do nothing about is a fault.
pub(super) fn answer(error: &ChatError) -> Result<Reply, Fault> {
    let text = error.to_string();
    Ok(match error {
        ChatError::ThreadNotFound(_) => refused("Thread not found"),
        ChatError::MessageNotFound(id) => refused(&format!("Message '{id}' not found")),
        ChatError::AgentNotFound(id) => refused(&format!("Agent not found: {id}")),
        ChatError::TemplateNotFound(id) => refused(&format!("Thread template '{id}' not found.")),
        ChatError::ThreadClosed(_) => refused_with("THREAD_CLOSED", json!({ "detail": text })),
        ChatError::Invalid(detail) => refused_with("INVALID_ARGUMENT", json!({ "detail": detail })),
        ChatError::ContentBlocked { pattern, .. } => {
            refused_with("Content blocked by filter", json!({ "pattern": pattern }))
        }
        ChatError::RateLimited { limit, window_s } => {
            let more = json!({ "limit": limit, "window": window_s, "retry_after": window_s });
            refused_with("Rate limit exceeded", more)
        }
        ChatError::WaitTooShort { asked_ms, min_ms } => refused_with(
            "MsgWaitTimeoutTooShort",
            json!({ "detail": text, "requested_timeout_ms": asked_ms, "min_timeout_ms": min_ms,
                "quick_return_eligible": false, "action": "RETRY_MSG_WAIT_WITH_MIN_TIMEOUT" }),
        ),
        ChatError::TooLarge { .. } | ChatError::TooMany { .. } => {
            refused_with("LIMIT_EXCEEDED", json!({ "detail": text }))
        }
        ChatError::MissingSyncFields { .. }
        | ChatError::TokenInvalid
        | ChatError::TokenReplay { .. }
        | ChatError::SeqMismatch { .. } => out_of_step(error),
        ChatError::Store(store) => return Err(failed(store)),
        _ => refused(&text),
    })
}

/// The name under which an agent knows why its strict post was refused.
pub(super) const fn class(error: &ChatError) -> &'static str {
    match error {
        ChatError::SeqMismatch { .. } => "SeqMismatchError",
        ChatError::MissingSyncFields { .. } => "MissingSyncFieldsError",
        ChatError::TokenReplay { .. } => "ReplyTokenReplayError",
        _ => "ReplyTokenInvalidError",
    }
}

fn out_of_step(error: &ChatError) -> Reply {
    let wait = |detail: String| json!({ "detail": detail, "REMINDER": GET_A_TOKEN, "action": "CALL_MSG_WAIT" });
    let more = match error {
        ChatError::SeqMismatch {
            expected,
            current,
            new_messages,
        } => {
            let unread: Vec<Value> = new_messages.iter().map(unread).collect();
            json!({
                "detail": format!("SEQ_MISMATCH: expected_last_seq={expected}, current_seq={current}"),
                "expected_last_seq": expected, "current_seq": current,
                "CRITICAL_REMINDER": READ_FIRST, "new_messages_1st_read": unread,
                "action": "READ_MESSAGES_THEN_CALL_MSG_WAIT",
            })
        }
        ChatError::TokenReplay { consumed_at } => {
            let mut more = wait("TOKEN_REPLAY".to_owned());
            more["consumed_at"] = json!(consumed_at);
            more
        }
        ChatError::TokenInvalid => wait("TOKEN_INVALID".to_owned()),
        other => wait(other.to_string()),
    };
    refused_with(class(error), more)
}

/// A post whose token is good for nothing, and why.
pub(super) fn no_token(detail: &str) -> Reply {
    let more = json!({ "detail": detail, "REMINDER": GET_A_TOKEN, "action": "CALL_MSG_WAIT" });
    refused_with("ReplyTokenInvalidError", more)
}

fn unread(message: &Message) -> Value {
    json!({ "msg_id": message.id, "seq": message.seq, "author": message.author,
        "role": message.role, "content": message.content, "created_at": message.created_at })
}

fn failed(error: &StoreError) -> Fault {
    if !error.is_retryable() {
        tracing::error!(%error, "a conversation failed");
    }
    Fault::failed(error)
}
