//! Editing, which forgets nothing.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::model::{Edit, Message, Role};
use crate::store::Tx;
use crate::{AgentId, AuthProblem, Chat, ChatError, MessageId, limits, secret};

use super::post::Proof;
use super::{Core, excerpt, within};

/// What came of an edit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Edited {
    /// The message as it is now.
    pub message: Message,
    /// Whether its text is another one now.
    pub changed: bool,
    /// Who edited.
    pub edited_by: String,
}

impl Chat {
    /// Replaces the text of a message; the one before is kept. Its place in the order stays, and
    /// nobody who waits is woken.
    ///
    /// # Errors
    /// Fails when there is no such message, when the editor is not its author or does not prove to
    /// be, or when the text is not allowed.
    pub async fn edit(
        &self,
        id: MessageId,
        content: String,
        edited_by: String,
        proof: Proof,
    ) -> Result<Edited, ChatError> {
        within("content", content.len(), limits::CONTENT_BYTES_MAX)?;
        self.write(move |core, tx| core.edit(tx, &id, content, edited_by, &proof))
            .await
    }

    /// A message and its earlier texts.
    ///
    /// # Errors
    /// Fails when there is no such message.
    pub async fn history(&self, id: MessageId) -> Result<(Message, Vec<Edit>), ChatError> {
        self.read(move |core, tx| Ok((core.message(tx, &id)?, tx.edits(&id)?)))
            .await
    }
}

impl Core {
    pub(super) fn message(&self, tx: &dyn Tx, id: &MessageId) -> Result<Message, ChatError> {
        tx.message(id)?
            .ok_or_else(|| ChatError::MessageNotFound(id.clone()))
    }

    fn edit(
        &self,
        tx: &mut dyn Tx,
        id: &MessageId,
        content: String,
        edited_by: String,
        proof: &Proof,
    ) -> Result<Edited, ChatError> {
        let mut message = self.message(tx, id)?;
        may_edit(tx, &message, &edited_by, proof)?;
        if message.content == content {
            return Ok(Edited {
                message,
                changed: false,
                edited_by,
            });
        }
        self.filter("content", &content)?;
        let now = self.now();
        message.edit_version += 1;
        let before = Edit {
            version: message.edit_version,
            old_content: std::mem::replace(&mut message.content, content),
            edited_by: edited_by.clone(),
            created_at: now,
        };
        message.edited_at = Some(now);
        tx.insert_edit(&self.ambient.uuid(), id, &before)?;
        tx.update_message(&message)?;
        self.tell_edit(tx, &message, &edited_by)?;
        Ok(Edited {
            message,
            changed: true,
            edited_by,
        })
    }

    fn tell_edit(
        &self,
        tx: &mut dyn Tx,
        message: &Message,
        edited_by: &str,
    ) -> Result<(), ChatError> {
        let Message { id, thread_id, .. } = message;
        let content = if message.human_only {
            String::new()
        } else {
            excerpt(&message.content)
        };
        let told = json!({ "msg_id": id, "thread_id": thread_id, "edited_by": edited_by,
            "version": message.edit_version, "content": content });
        self.emit(tx, "msg.edit", Some(thread_id), told)?;
        self.audit(
            tx,
            edited_by,
            "message.edit",
            Some(thread_id),
            Some(id.as_str()),
        )
    }
}

/// Only the author edits, under its name or id; a registered one has to prove it.
fn may_edit(
    tx: &dyn Tx,
    message: &Message,
    edited_by: &str,
    proof: &Proof,
) -> Result<(), ChatError> {
    if message.role == Role::System {
        return Err(ChatError::Forbidden(
            "System messages cannot be edited".to_owned(),
        ));
    }
    let author = message.author_id.as_deref();
    if edited_by != message.author && Some(edited_by) != author {
        return Err(ChatError::Forbidden(format!(
            "Only the original author ('{}') can edit this message",
            message.author
        )));
    }
    match author {
        Some(author) => check_proof(tx, &AgentId::new(author), proof),
        None => Ok(()),
    }
}

/// Checks that whoever acts is the agent that they name.
pub(super) fn check_proof(tx: &dyn Tx, agent: &AgentId, proof: &Proof) -> Result<(), ChatError> {
    let proven = match proof {
        Proof::Agent(known) => known.id() == agent && known.holds(tx)?,
        Proof::Live(known) => known == agent,
        Proof::Token(offered) => {
            let kept = tx.agent_token(agent)?.unwrap_or_default();
            secret::fits(&kept, offered)
        }
        Proof::Nothing | Proof::ReplyToken => {
            return Err(ChatError::Unauthenticated(AuthProblem::Missing));
        }
    };
    if proven {
        return Ok(());
    }
    Err(ChatError::Unauthenticated(AuthProblem::Token))
}
