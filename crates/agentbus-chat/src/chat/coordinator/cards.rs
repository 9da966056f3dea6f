//! What the coordinator says, and to whom.

use serde_json::{Value, json};

use crate::model::Message;
use crate::store::Tx;
use crate::{ChatError, MessageId, Seq, ThreadId};

use super::super::Core;
use super::super::cards::actions_of;
use super::super::guidance::{card, spoken_by_the_bus};
use super::scenario::Situation;
use crate::model::is_human_only;

/// Asks whether the administrator shall go on alone.
pub(in super::super) const TAKEOVER_CARD: &str = "admin_takeover_confirmation_required";
/// Asks whether another one shall administer.
pub(in super::super) const SWITCH_CARD: &str = "admin_switch_confirmation_required";
/// Calls the administrator.
pub(in super::super) const INSTRUCTION: &str = "admin_coordination_takeover_instruction";
const NOTICE: &str = "admin_coordination_timeout_notice";
const WARNING: &str = "agent_offline_risk_notice";

impl Core {
    /// Posts in the voice of the bus. The rate limit and the filter do not count for it.
    pub(in super::super) fn say(
        &self,
        tx: &mut dyn Tx,
        thread: &ThreadId,
        content: String,
        metadata: Value,
    ) -> Result<Seq, ChatError> {
        let now = self.now();
        let message = Message {
            id: MessageId::new(self.ambient.uuid_at(now)),
            thread_id: thread.clone(),
            seq: tx.next_seq()?,
            content,
            created_at: now,
            human_only: is_human_only(Some(&metadata)),
            metadata: Some(metadata),
            ..spoken_by_the_bus()
        };
        self.publish(tx, &message)?;
        let kind = message.meta("ui_type").unwrap_or_default();
        if actions_of(kind).is_some() {
            // Events reach agents as well, so it does not say what is asked.
            let told = json!({ "msg_id": message.id, "thread_id": thread });
            self.emit(tx, "admin.asked", Some(thread), told)?;
        }
        Ok(message.seq)
    }

    /// Scenario A.
    pub(super) fn ask_takeover(&self, tx: &mut dyn Tx, now: &Situation) -> Result<(), ChatError> {
        let thread = &now.settings.thread_id;
        if self.is_open(tx, thread, TAKEOVER_CARD)? {
            return Ok(());
        }
        let (waited, admin) = (now.waited.as_secs(), admin_label(now));
        let content = format!(
            "Everyone has waited for {waited} seconds. Only the administrator {admin} is online. \
             Shall the administrator take over and go on alone?"
        );
        let mut fields = self.fields(now, "single_online_current_admin_waiting");
        fields["mode"] = json!("single_agent_current_admin");
        fields["ui_buttons"] = json!([
            { "action": "takeover", "label": "Let the administrator take over now" },
            { "action": "cancel", "label": "Cancel",
              "tooltip": "Go on waiting for agents that are offline; they may be at work." },
        ]);
        self.say(
            tx,
            thread,
            content,
            card(thread, TAKEOVER_CARD, true, fields),
        )?;
        Ok(())
    }

    /// Scenario B.
    pub(super) fn call_admin(&self, tx: &mut dyn Tx, now: &Situation) -> Result<(), ChatError> {
        if !self.is_due(tx, &now.settings, NOTICE)? {
            return Ok(());
        }
        self.notice(tx, now)?;
        let (thread, waited, admin) = (
            &now.settings.thread_id,
            now.waited.as_secs(),
            admin_label(now),
        );
        let content = format!(
            "Coordinator: all online agents have waited for {waited} seconds. The administrator \
             {admin} must act now: go on with the work, hand it out, or ask a person. Do not wait."
        );
        let fields = self.fields(now, "all_agents_waiting");
        let target = json!({
            "reason": fields["reason"], "handoff_target": fields["current_admin_id"],
            "target_admin_id": fields["current_admin_id"],
            "target_admin_name": fields["current_admin_name"],
            "target_admin_emoji": fields["current_admin_emoji"],
            "timeout_seconds": fields["timeout_seconds"],
            "online_agents_count": fields["online_agents_count"],
            "triggered_at": fields["triggered_at"],
        });
        self.say(
            tx,
            thread,
            content,
            card(thread, INSTRUCTION, false, target),
        )?;
        Ok(())
    }

    /// Scenario C.
    pub(super) fn warn(&self, tx: &mut dyn Tx, now: &Situation) -> Result<(), ChatError> {
        if !self.is_due(tx, &now.settings, NOTICE)? {
            return Ok(());
        }
        self.notice(tx, now)?;
        let thread = &now.settings.thread_id;
        let content = "The administrator of this thread is not among those who wait, so nobody \
                       hands out work. Please look whether the agents are still at work.";
        let fields = self.fields(now, "no_actionable_admin");
        self.say(
            tx,
            thread,
            content.to_owned(),
            card(thread, WARNING, true, fields),
        )?;
        Ok(())
    }

    /// Scenario D.
    pub(super) fn ask_switch(&self, tx: &mut dyn Tx, now: &Situation) -> Result<(), ChatError> {
        let thread = &now.settings.thread_id;
        let Some(candidate) = now.candidate() else {
            return Ok(());
        };
        if self.is_open(tx, thread, SWITCH_CARD)? {
            return Ok(());
        }
        let (waited, admin) = (now.waited.as_secs(), admin_label(now));
        let other = format!("{} {}", candidate.emoji(), candidate.shown_name());
        let content = format!(
            "Everyone has waited for {waited} seconds, and the administrator {admin} is not \
             there. {other} could take its place. A person has to decide."
        );
        let mut fields = self.fields(now, "all_agents_waiting");
        fields["mode"] = json!("single_agent_fallback");
        fields["candidate_admin_id"] = json!(candidate.id);
        fields["candidate_admin_name"] = json!(candidate.shown_name());
        fields["candidate_admin_emoji"] = json!(candidate.emoji());
        fields["ui_buttons"] = json!([
            { "action": "switch", "label": format!("Switch to {other}") },
            { "action": "keep", "label": format!("Keep {admin}") },
        ]);
        self.say(tx, thread, content, card(thread, SWITCH_CARD, true, fields))?;
        Ok(())
    }

    fn notice(&self, tx: &mut dyn Tx, now: &Situation) -> Result<(), ChatError> {
        let thread = &now.settings.thread_id;
        let content = format!(
            "All online agents of this thread have waited for {} seconds. The coordinator has \
             stepped in.",
            now.waited.as_secs()
        );
        let mut fields = self.fields(now, "all_agents_waiting");
        fields["mode"] = json!("multi_agent");
        self.say(tx, thread, content, card(thread, NOTICE, true, fields))?;
        Ok(())
    }

    /// What all cards tell.
    fn fields(&self, now: &Situation, reason: &str) -> Value {
        let (id, name, emoji) = match &now.admin {
            Some((Some(agent), _)) => (
                Some(&agent.id),
                Some(agent.shown_name()),
                Some(agent.emoji()),
            ),
            Some((None, known)) => (
                Some(&known.id),
                known.name.as_deref(),
                Some(crate::emoji::of_agent(known.id.as_str())),
            ),
            None => (None, None, None),
        };
        json!({
            "reason": reason, "current_admin_id": id, "current_admin_name": name,
            "current_admin_emoji": emoji, "timeout_seconds": now.waited.as_secs(),
            "online_agents_count": now.agents.len(), "triggered_at": self.now(),
        })
    }
}

fn admin_label(now: &Situation) -> String {
    match &now.admin {
        Some((Some(agent), _)) => format!("{} {}", agent.emoji(), agent.shown_name()),
        Some((None, known)) => known.name.clone().unwrap_or_else(|| known.id.to_string()),
        None => "(nobody)".to_owned(),
    }
}
