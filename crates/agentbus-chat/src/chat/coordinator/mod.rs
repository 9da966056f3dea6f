//! Notices when everyone in a thread waits for everyone.
//!
//! It looks at threads in which agents wait. Where all agents that matter have waited for long
//! enough, one of four things is said (see [`scenario`]). What only a person can decide is put
//! before one as a card; agents never see it.

pub(super) mod cards;
mod scenario;

use std::time::Duration;

use crate::model::{Agent, Message, ThreadSettings};
use crate::store::{MessageQuery, Tx};
use crate::{AgentId, Chat, ChatError, ThreadId, limits};

use super::Core;
use scenario::{Scenario, Situation};

impl Chat {
    /// Looks after every thread in which agents wait. The background does this every ten seconds.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn coordinate(&self) -> Result<(), ChatError> {
        let waiting = self.waiting(None).await?;
        let mut threads: Vec<ThreadId> = waiting.into_iter().map(|one| one.thread_id).collect();
        threads.dedup();
        for thread in threads {
            self.write(move |core, tx| core.coordinate(tx, &thread))
                .await?;
        }
        Ok(())
    }
}

impl Core {
    fn coordinate(&self, tx: &mut dyn Tx, thread: &ThreadId) -> Result<(), ChatError> {
        let Some(found) = tx.thread(thread)? else {
            return Ok(());
        };
        let settings = self.settings(tx, &found.id)?;
        if !settings.auto_administrator_enabled {
            return Ok(());
        }
        let Some(situation) = self.situation(tx, settings)? else {
            return Ok(());
        };
        match situation.scenario() {
            None => Ok(()),
            Some(Scenario::AdminAlone) => self.ask_takeover(tx, &situation),
            Some(Scenario::AdminAmongOthers) => self.call_admin(tx, &situation),
            Some(Scenario::AdminMissing) => self.warn(tx, &situation),
            Some(Scenario::OneWithoutAdmin) => self.ask_switch(tx, &situation),
        }
    }

    /// What holds in a thread in which all agents that matter wait; nothing if some do not.
    fn situation(
        &self,
        tx: &dyn Tx,
        settings: ThreadSettings,
    ) -> Result<Option<Situation>, ChatError> {
        let thread = &settings.thread_id;
        let waits = tx.waiting(Some(thread))?;
        let waiting = self.online(tx, waits.iter().map(|wait| wait.agent_id.clone()))?;
        let wrote = self.online(tx, tx.participants(thread)?.into_iter())?;
        let agents = if wrote.is_empty() { waiting } else { wrote };
        let entered = agents.iter().map(|agent| {
            let wait = waits.iter().find(|wait| wait.agent_id == agent.id);
            wait.map(|wait| wait.entered_at)
        });
        let Some(entered) = entered.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let Some(since) = entered.into_iter().max() else {
            return Ok(None);
        };
        let admin = match settings.admin() {
            Some(admin) => Some((tx.agent(&admin.who.id)?, admin.who)),
            None => None,
        };
        let waited = self.now().since(since);
        Ok(Some(Situation::new(settings, agents, admin, waited)))
    }

    fn online(
        &self,
        tx: &dyn Tx,
        ids: impl Iterator<Item = AgentId>,
    ) -> Result<Vec<Agent>, ChatError> {
        let now = self.now();
        let mut online = Vec::new();
        for id in ids {
            let agent = tx.agent(&id)?;
            let alive = |agent: &Agent| agent.is_online(now, self.config.heartbeat_timeout);
            online.extend(agent.filter(alive));
        }
        Ok(online)
    }

    /// The latest system messages of a thread.
    fn cards(&self, tx: &dyn Tx, thread: &ThreadId) -> Result<Vec<Message>, ChatError> {
        self.latest(tx, thread, "system", limits::CARDS_LOOKED_AT)
    }

    fn latest(
        &self,
        tx: &dyn Tx,
        thread: &ThreadId,
        role: &str,
        limit: usize,
    ) -> Result<Vec<Message>, ChatError> {
        let query = MessageQuery {
            role: Some(role.to_owned()),
            newest: true,
            limit,
            ..MessageQuery::default()
        };
        Ok(tx.messages(thread, &query)?)
    }

    /// Whether a card of this kind still waits for a person.
    fn is_open(&self, tx: &dyn Tx, thread: &ThreadId, kind: &str) -> Result<bool, ChatError> {
        let cards = self.cards(tx, thread)?;
        let open = |card: &&Message| {
            card.meta("ui_type") == Some(kind) && card.meta("decision_status") != Some("resolved")
        };
        Ok(cards.iter().any(|card| open(&card)))
    }

    /// Whether it is time to say something again. Each time nobody reacts, the distance doubles.
    fn is_due(
        &self,
        tx: &dyn Tx,
        settings: &ThreadSettings,
        kind: &str,
    ) -> Result<bool, ChatError> {
        let thread = &settings.thread_id;
        let mut last_word = 0;
        for role in ["user", "assistant"] {
            let last = self.latest(tx, thread, role, 1)?;
            last_word = last
                .first()
                .map_or(last_word, |message| last_word.max(message.seq));
        }
        let said = self.cards(tx, thread)?;
        let said = said
            .iter()
            .filter(|card| card.seq > last_word && card.meta("ui_type") == Some(kind));
        let said: Vec<_> = said.collect();
        let Some(last) = said.last() else {
            return Ok(true);
        };
        let base = u64::try_from(settings.timeout_seconds).unwrap_or(0);
        let base = Duration::from_secs(base).max(limits::NOTICE_BACKOFF.0);
        let doublings = u32::try_from(said.len() - 1).unwrap_or(u32::MAX).min(16);
        let distance = base
            .saturating_mul(1 << doublings)
            .min(limits::NOTICE_BACKOFF.1);
        Ok(self.now().since(last.created_at) >= distance)
    }
}
