//! Tools that change messages: edits and reactions.

use std::sync::Arc;

use agentbus_chat::{
    AgentId, AuthProblem, Chat, ChatError, Credentials, MessageId, Proof, ProvenAgent,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Services, refusal, tool, writing_tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

#[derive(Debug, Deserialize, JsonSchema)]
struct React {
    /// The message.
    message_id: String,
    /// Your agent id.
    agent_id: String,
    /// Such as `agree`, `disagree` or `important`.
    reaction: String,
    /// Your token, if this connection does not know you.
    token: Option<String>,
}

/// What a caller is told that nobody knows.
const WHO: &str = "say who you are: pass agent_id and token, or join with bus_connect first";

impl React {
    /// The agent speaks for itself: by its token, or on its connection.
    fn proof(&self, call: &Call) -> Proof {
        match &self.token {
            Some(token) => Proof::Token(token.clone()),
            None => call.session().proven().map_or(Proof::Nothing, Proof::Agent),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Reacted {
    reaction_id: String,
    message_id: String,
    agent_id: Option<String>,
    agent_name: Option<String>,
    reaction: String,
    created_at: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Unreacted {
    removed: bool,
    message_id: String,
    reaction: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Edit {
    /// The message; one of your own.
    message_id: String,
    /// The text that replaces the one before.
    new_content: String,
    /// Your id, if this connection does not know it. Needs `token`.
    agent_id: Option<String>,
    /// Your token.
    token: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Edited {
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_id: Option<String>,
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_by: Option<String>,
    /// Set when the text was the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_change: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct History {
    /// The message.
    message_id: String,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new("msg_react", "React to a message with a word.")
        .titled("React")
        .gives::<Reacted>()
        .idempotent();
    writing_tool!(catalog, services, about, react)?;
    let about = Tool::new(
        "msg_edit",
        "Replace the text of one of your own messages. The text before is kept.",
    )
    .titled("Edit a message")
    .gives::<Edited>()
    .idempotent();
    writing_tool!(catalog, services, about, edit)?;
    let about = Tool::new("msg_unreact", "Take a reaction back.")
        .gives::<Unreacted>()
        .idempotent()
        .extended();
    writing_tool!(catalog, services, about, unreact)?;
    let about = Tool::new("msg_edit_history", "Read the earlier texts of a message.")
        .read_only()
        .extended();
    tool!(catalog, services, about, history)
}

async fn react(_: &Services, call: &Call, (asked, chat): (React, Chat)) -> Result<Reply, Fault> {
    let message = MessageId::new(asked.message_id.as_str());
    let proof = Some(asked.proof(call));
    let agent = AgentId::new(asked.agent_id);
    match chat
        .react(message, Some(agent), asked.reaction, proof)
        .await
    {
        Ok(reaction) => Ok(Reply::data(&Reacted {
            reaction_id: reaction.id,
            message_id: reaction.message_id.to_string(),
            agent_id: reaction.agent_id.map(|id| id.to_string()),
            agent_name: reaction.agent_name,
            reaction: reaction.reaction,
            created_at: reaction.created_at.to_string(),
        })),
        Err(ChatError::MessageNotFound(id)) => Ok(refusal::refused_with(
            "MESSAGE_NOT_FOUND",
            json!({ "message_id": id }),
        )),
        Err(ChatError::Invalid(text)) => Ok(refusal::refused(&text)),
        Err(ChatError::Unauthenticated(AuthProblem::Missing)) => Ok(refusal::refused(WHO)),
        Err(error) => refusal::answer(&error),
    }
}

async fn unreact(_: &Services, call: &Call, (asked, chat): (React, Chat)) -> Result<Reply, Fault> {
    let message = MessageId::new(asked.message_id.as_str());
    let (agent, label) = (
        AgentId::new(asked.agent_id.as_str()),
        asked.reaction.clone(),
    );
    match chat
        .unreact(message, agent, label, Some(asked.proof(call)))
        .await
    {
        Ok(removed) => Ok(Reply::data(&Unreacted {
            removed,
            message_id: asked.message_id,
            reaction: asked.reaction,
        })),
        Err(ChatError::Unauthenticated(AuthProblem::Missing)) => Ok(refusal::refused(WHO)),
        Err(error) => refusal::answer(&error),
    }
}

async fn edit(
    services: &Services,
    call: &Call,
    (asked, chat): (Edit, Chat),
) -> Result<Reply, Fault> {
    let (id, content) = (asked.message_id.trim(), asked.new_content.trim());
    if id.is_empty() || content.is_empty() {
        return Ok(refusal::refused("message_id and new_content are required"));
    }
    let message = match services.chat.message(MessageId::new(id)).await {
        Ok((message, _)) if message.human_only => {
            return refusal::answer(&ChatError::MessageNotFound(message.id));
        }
        Ok((message, _)) => message,
        Err(error) => return refusal::answer(&error),
    };
    let editor = match editor(services, call, asked.agent_id, asked.token).await {
        Ok(editor) => editor,
        Err(error) => return refusal::answer(&error),
    };
    let (by, proof) = match editor {
        Some(agent) => (agent.id().to_string(), Proof::Agent(agent)),
        // What people wrote they edit over HTTP. A name proves nothing, and here agents call.
        None => return Ok(refusal::refused(WHO)),
    };
    match chat.edit(message.id, content.to_owned(), by, proof).await {
        Ok(edited) if edited.changed => Ok(Reply::data(&Edited {
            msg_id: Some(edited.message.id.to_string()),
            version: edited.message.edit_version,
            edited_at: edited.message.edited_at.map(|time| time.to_string()),
            edited_by: Some(edited.edited_by),
            no_change: None,
        })),
        Ok(edited) => Ok(Reply::data(&Edited {
            msg_id: None,
            version: edited.message.edit_version,
            edited_at: None,
            edited_by: None,
            no_change: Some(true),
        })),
        Err(error) => refusal::answer(&error),
    }
}

/// The agent that edits: the one that proves itself, or else the one of the connection.
async fn editor(
    services: &Services,
    call: &Call,
    agent_id: Option<String>,
    token: Option<String>,
) -> Result<Option<ProvenAgent>, ChatError> {
    match (agent_id, token) {
        (Some(id), Some(token)) => {
            let known = ProvenAgent::new(AgentId::new(id), &token);
            let agent_id = known.id().clone();
            services
                .chat
                .verify(Credentials { agent_id, token })
                .await?;
            Ok(Some(known))
        }
        (None, None) => Ok(call.session().proven()),
        _ => Err(ChatError::Unauthenticated(AuthProblem::Incomplete)),
    }
}

async fn history(services: &Services, _: &Call, asked: History) -> Result<Reply, Fault> {
    let id = MessageId::new(asked.message_id.as_str());
    let found = match services.chat.history(id).await {
        Ok((message, _)) if message.human_only => None,
        Ok(found) => Some(found),
        Err(ChatError::MessageNotFound(_)) => None,
        Err(error) => return refusal::answer(&error),
    };
    Ok(match found {
        None => Reply::data(&json!({ "found": false, "message_id": asked.message_id })),
        Some((message, edits)) => Reply::data(&json!({
            "message_id": message.id, "current_content": message.content,
            "edit_version": message.edit_version, "edits": edits,
        })),
    })
}
