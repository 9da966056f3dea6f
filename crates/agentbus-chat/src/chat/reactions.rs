//! Reactions: free labels, each once for each agent and message.

use serde_json::json;

use crate::model::Reaction;
use crate::{AgentId, Chat, ChatError, MessageId, limits};

use super::edit::check_proof;
use super::post::Proof;
use super::within;

impl Chat {
    /// Reacts to a message. Reacting again gives the first reaction back. A registered agent has to
    /// prove itself where a proof is asked for.
    ///
    /// # Errors
    /// Fails when there is no such message, the label is blank or too long, or the agent is
    /// registered and the proof is not its own.
    pub async fn react(
        &self,
        message: MessageId,
        agent: Option<AgentId>,
        label: String,
        proof: Option<Proof>,
    ) -> Result<Reaction, ChatError> {
        if label.trim().is_empty() {
            return Err(ChatError::invalid("Reaction must be a non-empty string"));
        }
        within("reaction", label.len(), limits::NAME_BYTES_MAX)?;
        self.write(move |core, tx| {
            let found = core.message(tx, &message)?;
            let who = agent.as_ref().map(|id| tx.agent(id)).transpose()?.flatten();
            if let (Some(who), Some(proof)) = (&who, &proof) {
                check_proof(tx, &who.id, proof)?;
            }
            let there = tx.reactions(std::slice::from_ref(&message))?;
            let same = |one: &&Reaction| one.agent_id == agent && one.reaction == label;
            if let Some(first) = there.iter().find(same) {
                return Ok(first.clone());
            }
            if there.len() >= limits::REACTIONS_MAX {
                let (what, limit) = ("reactions to this message", limits::REACTIONS_MAX);
                return Err(ChatError::TooMany { what, limit });
            }
            let reaction = Reaction {
                id: core.ambient.uuid(),
                message_id: message,
                agent_name: who.map(|agent| agent.name),
                agent_id: agent,
                reaction: label,
                created_at: core.now(),
            };
            tx.insert_reaction(&reaction)?;
            let told = json!({ "reaction_id": reaction.id, "message_id": reaction.message_id,
                "agent_id": reaction.agent_id, "agent_name": reaction.agent_name,
                "reaction": reaction.reaction, "thread_id": found.thread_id });
            core.emit(tx, "msg.react", Some(&found.thread_id), told)?;
            let actor = reaction.agent_id.as_ref().map_or("", AgentId::as_str);
            let subject = Some(reaction.message_id.as_str());
            core.audit(tx, actor, "message.react", Some(&found.thread_id), subject)?;
            Ok(reaction)
        })
        .await
    }

    /// Takes a reaction back; whether there was one. The same proof is asked for.
    ///
    /// # Errors
    /// Fails when the agent is registered and the proof is not its own.
    pub async fn unreact(
        &self,
        message: MessageId,
        agent: AgentId,
        label: String,
        proof: Option<Proof>,
    ) -> Result<bool, ChatError> {
        self.write(move |core, tx| {
            let Some(found) = tx.message(&message)? else {
                return Ok(false);
            };
            if let (Some(who), Some(proof)) = (tx.agent(&agent)?, &proof) {
                check_proof(tx, &who.id, proof)?;
            }
            if !tx.delete_reaction(&message, agent.as_str(), &label)? {
                return Ok(false);
            }
            let thread = &found.thread_id;
            let told = json!({ "message_id": message, "agent_id": agent, "reaction": label,
                "thread_id": thread });
            core.emit(tx, "msg.unreact", Some(thread), told)?;
            let subject = Some(message.as_str());
            core.audit(tx, agent.as_str(), "message.unreact", Some(thread), subject)?;
            Ok(true)
        })
        .await
    }

    /// The reactions to a message; none for one that there is not.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn reactions(&self, message: MessageId) -> Result<Vec<Reaction>, ChatError> {
        self.read(move |_, tx| Ok(tx.reactions(&[message])?)).await
    }
}
