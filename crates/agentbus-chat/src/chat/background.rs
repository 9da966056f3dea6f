//! What runs beside the callers: the coordinator, the sweep, the broom.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use crate::{AgentId, Chat, ChatError, Stamp, limits};

/// The work that time brings. Its owner runs it, and ends it.
#[derive(Debug)]
pub struct Background {
    chat: Chat,
    seen: HashMap<AgentId, bool>,
    swept: Stamp,
    pruned: Stamp,
}

impl Background {
    /// Nothing has been done yet.
    #[must_use]
    pub fn new(chat: Chat) -> Self {
        let now = chat.now();
        Self {
            chat,
            seen: HashMap::new(),
            swept: now,
            pruned: now,
        }
    }

    /// Works until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let next = self
                .chat
                .inner
                .core
                .ambient
                .clock
                .sleep(limits::COORDINATOR_INTERVAL);
            tokio::select! {
                () = stop.cancelled() => return,
                () = next => {}
            }
            if !self.chat.inner.store.leads() {
                continue;
            }
            if let Err(error) = self.turn().await {
                tracing::warn!(%error, "the work beside the conversations has to wait");
            }
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// Fails when the store does; what is due stays due.
    pub async fn turn(&mut self) -> Result<(), ChatError> {
        self.chat.coordinate().await?;
        self.chat.check_presence(&mut self.seen).await?;
        let now = self.chat.now();
        if now.since(self.swept) >= self.chat.config().sweep_interval {
            self.chat.sweep().await?;
            self.swept = now;
        }
        if now.since(self.pruned) >= limits::PRUNE_INTERVAL {
            self.chat.prune().await?;
            self.pruned = now;
        }
        Ok(())
    }
}
