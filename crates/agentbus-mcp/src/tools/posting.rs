//! `msg_post`: a strict post.

use std::sync::Arc;

use agentbus_chat::model::{Priority, Role};
use agentbus_chat::{AgentId, Chat, ChatError, Draft, MessageId, Posted, Proof, Sync, ThreadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::views::{self, SyncView};
use super::{Services, refusal, writing_tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// The thread.
    thread_id: String,
    /// Your agent id, or any name for somebody who is not registered.
    author: String,
    /// What to say, as Markdown.
    content: String,
    /// The `current_seq` that you got with the reply token.
    expected_last_seq: i64,
    /// The reply token of your last bus_connect, thread_create, msg_wait or msg_post.
    reply_token: String,
    /// Whom you speak as.
    #[serde(default)]
    #[schemars(extend("enum" = Role::WORDS))]
    role: Option<String>,
    #[serde(default)]
    #[schemars(extend("enum" = Priority::WORDS))]
    priority: Option<String>,
    /// Ids of agents that shall take notice.
    mentions: Option<Vec<String>>,
    /// Whatever belongs to the message; `attachments` holds images.
    metadata: Option<Map<String, Value>>,
    /// The message of the same thread that this one answers.
    reply_to_msg_id: Option<String>,
    /// Your token, if this connection has not seen it.
    token: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Done {
    msg_id: String,
    seq: i64,
    reply_to_msg_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handoff_target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<String>,
    /// For the next post, if you are registered.
    #[serde(flatten)]
    #[schemars(with = "Option<SyncView>")]
    sync: Option<SyncView>,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let priority = services.chat.config().enable_priority;
    let about = Tool::new(
        "msg_post",
        "Post a message to a thread. It needs the reply_token and current_seq that you got last; \
         if others have posted since, nothing is posted and you are told what is new. Returns the \
         message's number and the reply_token for your next post.",
    )
    .titled("Post a message")
    .with_optional("priority", priority)
    .gives::<Done>();
    writing_tool!(catalog, services, about, post)
}

async fn post(
    services: &Services,
    call: &Call,
    (asked, chat): (Asked, Chat),
) -> Result<Reply, Fault> {
    let thread = ThreadId::new(asked.thread_id.as_str());
    let author = asked.author.clone();
    let draft = draft(call, asked);
    match chat.post(draft).await {
        Ok(posted) => Ok(Reply::data(&done(services, &posted))),
        // As AgentChatBus says it: no token is good in a thread that there is not.
        Err(ChatError::ThreadNotFound(id)) => {
            let detail = format!("TOKEN_INVALID: there is no thread `{id}`");
            Ok(refusal::no_token(&detail))
        }
        Err(error) => {
            if error.is_sync() {
                recover(services, call, thread, author, &error).await?;
            }
            refusal::answer(&error)
        }
    }
}

fn draft(call: &Call, asked: Asked) -> Draft {
    let id = AgentId::new(asked.author.as_str());
    let mut draft = Draft::new(ThreadId::new(asked.thread_id), asked.author, asked.content);
    let known = call.session().proven().filter(|known| *known.id() == id);
    draft.proof = match (asked.token, known) {
        (Some(token), _) => Proof::Token(token),
        (None, Some(known)) => Proof::Agent(known),
        // Who holds a reply token that was given to an agent is that agent.
        (None, None) => Proof::ReplyToken,
    };
    let role = asked.role.as_deref().and_then(Role::parse);
    draft.role = role.unwrap_or(Role::User);
    let priority = asked.priority.as_deref().and_then(Priority::parse);
    draft.priority = priority.unwrap_or(Priority::Normal);
    draft.metadata = asked.metadata.map(Value::Object);
    draft.reply_to = asked.reply_to_msg_id.map(MessageId::new);
    if let Some(mentions) = asked.mentions.filter(|list| !list.is_empty()) {
        draft.merge_metadata("mentions", json!(mentions));
    }
    draft.sync = Sync::Strict {
        expected_last_seq: Some(asked.expected_last_seq),
        reply_token: Some(asked.reply_token),
    };
    draft
}

fn done(services: &Services, posted: &Posted) -> Done {
    let config = services.chat.config();
    let message = &posted.message;
    let meta = |shown: bool, name: &str| message.meta(name).filter(|_| shown).map(str::to_owned);
    Done {
        msg_id: message.id.to_string(),
        seq: message.seq,
        reply_to_msg_id: message.reply_to.as_ref().map(ToString::to_string),
        priority: config.enable_priority.then(|| message.priority.as_str()),
        handoff_target: meta(config.enable_handoff_target, "handoff_target"),
        stop_reason: meta(config.enable_stop_reason, "stop_reason"),
        sync: posted.next.as_ref().map(views::sync),
    }
}

/// Whoever is out of step gets fresh tokens only from its next wait, which then returns at once.
async fn recover(
    services: &Services,
    call: &Call,
    thread: ThreadId,
    author: String,
    error: &ChatError,
) -> Result<(), Fault> {
    let agent = match call.session().agent() {
        Some(agent) => agent,
        None => match services.chat.agent(AgentId::new(author)).await {
            Ok(agent) => agent.id,
            Err(_) => return Ok(()),
        },
    };
    if services.chat.thread(thread.clone()).await.is_err() {
        return Ok(());
    }
    let reason = refusal::class(error);
    let recovered = services.chat.recover(thread, agent, reason).await;
    recovered.map_err(Fault::failed)
}
