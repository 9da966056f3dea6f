//! What time does by itself: silent threads close, agents go offline, old events are forgotten.

use std::collections::HashMap;

use serde_json::json;

use crate::model::{Thread, ThreadState};
use crate::store::{Promise, Tx};
use crate::{AgentId, Chat, ChatError, Stamp, ThreadId, limits};

use super::Core;

impl Chat {
    /// Closes threads in discussion that have been silent for too long; which those are.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn sweep(&self) -> Result<Vec<ThreadId>, ChatError> {
        if self.config().thread_timeout.is_zero() {
            return Ok(Vec::new());
        }
        self.write(|core, tx| {
            let cutoff = core.now().before(core.config.thread_timeout);
            let silent = tx.silent_threads(cutoff)?;
            let closed = silent
                .into_iter()
                .map(|(thread, last)| core.time_out(tx, thread, last));
            closed.collect()
        })
        .await
    }

    /// Forgets events and outcomes that nobody will ask for; how many.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn prune(&self) -> Result<usize, ChatError> {
        let mut forgotten = 0;
        loop {
            let pruned = self
                .write_with(Promise::Stored, |core, tx| {
                    let now = core.now();
                    tx.prune_outcomes(now.before(limits::IDEMPOTENCY_TTL))?;
                    Ok(tx.prune_events(now.before(limits::EVENTS_KEPT), limits::PRUNE_BATCH)?)
                })
                .await?;
            forgotten += pruned;
            if pruned < limits::PRUNE_BATCH {
                return Ok(forgotten);
            }
        }
    }

    /// Tells of agents that went offline or came online since the last call, which `seen` remembers.
    /// Registering and resuming tell of themselves.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn check_presence(&self, seen: &mut HashMap<AgentId, bool>) -> Result<(), ChatError> {
        let now_online = self
            .read(|core, tx| {
                let (now, timeout) = (core.now(), core.config.heartbeat_timeout);
                let agents = tx.agents()?.into_iter();
                let states = agents.map(|agent| {
                    let online = agent.is_online(now, timeout);
                    (agent.id, online)
                });
                Ok(states.collect::<HashMap<_, _>>())
            })
            .await?;
        let changed = |(id, online): (&AgentId, &bool)| {
            seen.get(id)
                .is_some_and(|was| was != online)
                .then(|| (id.clone(), *online))
        };
        let changes: Vec<_> = now_online.iter().filter_map(changed).collect();
        *seen = now_online;
        if changes.is_empty() {
            return Ok(());
        }
        self.write_with(Promise::Soon, move |core, tx| {
            core.tell_presence(tx, changes)
        })
        .await
    }
}

impl Core {
    fn time_out(
        &self,
        tx: &mut dyn Tx,
        mut thread: Thread,
        last: Stamp,
    ) -> Result<ThreadId, ChatError> {
        let now = self.now();
        thread.status = ThreadState::Closed;
        thread.closed_at = Some(now);
        thread.updated_at = Some(now);
        tx.update_thread(&thread)?;
        let minutes = self.config.thread_timeout.as_secs() / 60;
        let told = json!({ "thread_id": thread.id, "topic": thread.topic, "last_activity": last,
            "timeout_minutes": minutes, "closed_at": now });
        self.emit(tx, "thread.timeout", Some(&thread.id), told)?;
        self.audit(tx, "system", "thread.timeout", Some(&thread.id), None)?;
        Ok(thread.id)
    }

    fn tell_presence(
        &self,
        tx: &mut dyn Tx,
        changes: Vec<(AgentId, bool)>,
    ) -> Result<(), ChatError> {
        for (id, online) in changes {
            let Some(agent) = tx.agent(&id)? else {
                continue;
            };
            let (kind, told) = if online {
                let told = json!({ "agent_id": id, "name": agent.name, "ide": agent.ide,
                    "model": agent.model });
                ("agent.online", told)
            } else {
                (
                    "agent.offline",
                    json!({ "agent_id": id, "reason": "silent" }),
                )
            };
            self.emit(tx, kind, None, told)?;
        }
        Ok(())
    }
}
