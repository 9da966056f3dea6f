//! What a person decides about the administrator of a thread.
//!
//! A card takes one decision. Whoever comes second is told what the first has decided.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{Agent, Assigned, Message, ThreadSettings};
use crate::store::Tx;
use crate::{AgentId, Chat, ChatError, MessageId, Stamp, ThreadId};

use super::Core;
use super::cards::actions_of;
use super::coordinator::cards::INSTRUCTION;
use super::guidance::card;

/// A decision.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The thread it is about.
    pub thread_id: ThreadId,
    /// What to do.
    pub action: DecisionAction,
    /// Who shall administer; the card's candidate without it.
    pub candidate: Option<AgentId>,
    /// The card that is answered.
    pub source: Option<MessageId>,
}

/// What can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionAction {
    /// Another agent administers.
    Switch,
    /// The administrator stays.
    Keep,
    /// The administrator goes on alone.
    Takeover,
    /// Everyone goes on waiting.
    Cancel,
}

/// What came of a decision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decided {
    /// The thread.
    pub thread_id: ThreadId,
    /// What was decided; by whoever came first.
    pub action: DecisionAction,
    /// Whether somebody else had decided before.
    pub already_decided: bool,
    /// The card.
    pub source: Option<MessageId>,
    /// When it was decided.
    pub decided_at: Stamp,
    /// The agent that it is about.
    pub agent: Option<Assigned>,
}

impl DecisionAction {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Keep => "keep",
            Self::Takeover => "takeover",
            Self::Cancel => "cancel",
        }
    }

    /// Finds what a word means.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Switch, Self::Keep, Self::Takeover, Self::Cancel]
            .into_iter()
            .find(|action| action.as_str() == word)
    }
}

impl Chat {
    /// Decides about the administrator of a thread.
    ///
    /// # Errors
    /// Fails when there is no such thread, card or agent, or when the card asks something else.
    pub async fn decide(&self, decision: Decision) -> Result<Decided, ChatError> {
        self.write(move |core, tx| core.decide(tx, &decision)).await
    }
}

impl Core {
    fn decide(&self, tx: &mut dyn Tx, decision: &Decision) -> Result<Decided, ChatError> {
        let settings = self.settings(tx, &decision.thread_id)?;
        let source = match &decision.source {
            Some(id) => Some(self.card_to_answer(tx, decision, id)?),
            None => None,
        };
        if let Some(answered) = source.as_ref().and_then(|card| answered(decision, card)) {
            return Ok(answered);
        }
        let agent = match decision.action {
            DecisionAction::Switch => self.switch(tx, decision, settings, source.as_ref())?,
            DecisionAction::Takeover => self.takeover(tx, decision, &settings, source.as_ref())?,
            DecisionAction::Keep | DecisionAction::Cancel => {
                self.leave_it(tx, decision, &settings)?
            }
        };
        if let Some(card) = source {
            self.resolve(tx, card, decision.action)?;
        }
        let subject = Some(decision.action.as_str());
        self.audit(
            tx,
            "human",
            "admin.decide",
            Some(&decision.thread_id),
            subject,
        )?;
        Ok(Decided {
            thread_id: decision.thread_id.clone(),
            action: decision.action,
            already_decided: false,
            source: decision.source.clone(),
            decided_at: self.now(),
            agent,
        })
    }

    /// Finds the card, and checks that it asks what is answered.
    fn card_to_answer(
        &self,
        tx: &dyn Tx,
        decision: &Decision,
        id: &MessageId,
    ) -> Result<Message, ChatError> {
        let card = self.message(tx, id)?;
        if card.thread_id != decision.thread_id {
            let text = "source_message_id does not belong to this thread";
            return Err(ChatError::invalid(text));
        }
        let kind = card.meta("ui_type").unwrap_or_default();
        let Some(allowed) = actions_of(kind) else {
            let text = "source_message_id is not an admin decision prompt";
            return Err(ChatError::invalid(text));
        };
        if allowed.contains(&decision.action) {
            return Ok(card);
        }
        let (action, allowed) = (
            decision.action.as_str(),
            allowed.map(DecisionAction::as_str),
        );
        Err(ChatError::Invalid(format!(
            "Invalid action '{action}' for source_message_id ui_type={kind}. Allowed: {}",
            allowed.join(", ")
        )))
    }

    fn switch(
        &self,
        tx: &mut dyn Tx,
        decision: &Decision,
        mut settings: ThreadSettings,
        card: Option<&Message>,
    ) -> Result<Option<Assigned>, ChatError> {
        let proposed = || Some(AgentId::new(card?.meta("candidate_admin_id")?));
        let candidate = decision.candidate.clone().or_else(proposed);
        let candidate = candidate.ok_or_else(|| {
            ChatError::invalid("candidate_admin_id is required for the action 'switch'")
        })?;
        let agent = tx.agent(&candidate)?;
        let agent = agent.ok_or(ChatError::AgentNotFound(candidate))?;
        if !settings.auto_administrator_enabled {
            return Err(ChatError::Conflict(
                "the coordinator is switched off for this thread; switch it on to change its \
                 administrator"
                    .to_owned(),
            ));
        }
        let before = settings.admin().map(|admin| admin.who);
        let now = self.now();
        let new = assigned(&agent, now);
        settings.creator = None;
        settings.assigned = Some(new.clone());
        settings.updated_at = now;
        tx.put_settings(&settings)?;
        let old = before.as_ref().map_or("nobody", name_of);
        let content = format!(
            "A person has made {} the administrator; it was {old}.",
            label(&agent)
        );
        let fields = json!({ "decision": "switch", "source_message_id": decision.source,
            "previous_admin_id": before.as_ref().map(|who| &who.id), "new_admin_id": agent.id,
            "new_admin_name": agent.shown_name(), "new_admin_emoji": agent.emoji(),
            "decided_at": now });
        self.record(
            tx,
            decision,
            "admin_switch_decision_result",
            content,
            fields,
        )?;
        Ok(Some(new))
    }

    fn takeover(
        &self,
        tx: &mut dyn Tx,
        decision: &Decision,
        settings: &ThreadSettings,
        prompt: Option<&Message>,
    ) -> Result<Option<Assigned>, ChatError> {
        let asked = || Some(AgentId::new(prompt?.meta("current_admin_id")?));
        let current = || settings.admin().map(|admin| admin.who.id);
        let target = asked()
            .or_else(current)
            .or_else(|| decision.candidate.clone());
        let target = target
            .ok_or_else(|| ChatError::invalid("No actionable administrator found for takeover"))?;
        let agent = tx.agent(&target)?.ok_or(ChatError::AgentNotFound(target))?;
        let (thread, now) = (&decision.thread_id, self.now());
        let content = format!(
            "A person has decided: {}, the other agents are not there. Take over now, go on with \
             the work yourself, and do not wait.",
            label(&agent)
        );
        let fields = json!({ "decision": "takeover", "source_message_id": decision.source,
            "handoff_target": agent.id, "target_admin_id": agent.id,
            "target_admin_name": agent.shown_name(), "target_admin_emoji": agent.emoji(),
            "decided_at": now });
        // Visible to agents: it is what wakes the administrator.
        self.say(
            tx,
            thread,
            content,
            card(thread, INSTRUCTION, false, fields),
        )?;
        Ok(Some(assigned(&agent, now)))
    }

    fn leave_it(
        &self,
        tx: &mut dyn Tx,
        decision: &Decision,
        settings: &ThreadSettings,
    ) -> Result<Option<Assigned>, ChatError> {
        let admin = settings.admin().map(|admin| admin.who);
        let name = admin.as_ref().map_or("nobody", name_of).to_owned();
        let (kind, content) = match decision.action {
            DecisionAction::Keep => (
                "admin_switch_decision_result",
                format!("A person has decided: {name} stays the administrator."),
            ),
            _ => (
                "admin_takeover_decision_result",
                "A person has decided: go on waiting for the other agents.".to_owned(),
            ),
        };
        let mut fields = json!({ "decision": decision.action, "decided_at": self.now(),
            "source_message_id": decision.source });
        if decision.action == DecisionAction::Keep {
            fields["kept_admin_id"] = json!(admin.as_ref().map(|who| &who.id));
            fields["kept_admin_name"] = json!(admin.as_ref().and_then(|who| who.name.as_deref()));
        }
        self.record(tx, decision, kind, content, fields)?;
        Ok(admin)
    }

    /// Writes down for people what was decided.
    fn record(
        &self,
        tx: &mut dyn Tx,
        decision: &Decision,
        kind: &str,
        content: String,
        fields: Value,
    ) -> Result<(), ChatError> {
        let thread = &decision.thread_id;
        self.say(tx, thread, content, card(thread, kind, true, fields))?;
        Ok(())
    }

    fn resolve(
        &self,
        tx: &mut dyn Tx,
        mut card: Message,
        action: DecisionAction,
    ) -> Result<(), ChatError> {
        if let Some(metadata) = &mut card.metadata {
            metadata["decision_status"] = json!("resolved");
            metadata["decision_action"] = json!(action);
            metadata["decision_at"] = json!(self.now());
        }
        tx.update_message(&card)?;
        let told = json!({ "msg_id": card.id, "thread_id": card.thread_id,
            "decision_action": action });
        self.emit(tx, "admin.decided", Some(&card.thread_id), told)
    }
}

/// What was decided on a card before, if anything was.
fn answered(decision: &Decision, card: &Message) -> Option<Decided> {
    if card.meta("decision_status") != Some("resolved") {
        return None;
    }
    let at = card.meta("decision_at").and_then(Stamp::parse);
    let action = card.meta("decision_action").and_then(DecisionAction::parse);
    Some(Decided {
        thread_id: decision.thread_id.clone(),
        action: action.unwrap_or(decision.action),
        already_decided: true,
        source: Some(card.id.clone()),
        decided_at: at.unwrap_or(card.created_at),
        agent: None,
    })
}

fn assigned(agent: &Agent, now: Stamp) -> Assigned {
    Assigned {
        id: agent.id.clone(),
        name: Some(agent.shown_name().to_owned()),
        at: Some(now),
    }
}

/// An agent as people read of it.
pub(super) fn label(agent: &Agent) -> String {
    format!("{} {}", agent.emoji(), agent.shown_name())
}

fn name_of(who: &Assigned) -> &str {
    who.name.as_deref().unwrap_or(who.id.as_str())
}
