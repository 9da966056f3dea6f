//! Everything of one connection that hands out messages, and how it comes to an end.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::{QueueStats, TransportError, limits};

/// A receiver that a close has to wait for.
pub trait Drain: Send + Sync {
    /// Takes no new messages.
    fn stop(self: Arc<Self>);
    /// Whether everything is handed out.
    fn is_drained(&self) -> bool;
    /// Gives up what is left and returns how much it was.
    fn end(&self) -> usize;
    /// What an operator can see of it.
    fn stats(&self) -> QueueStats;
}

/// The receivers of one connection, for as long as somebody holds them.
#[derive(Default)]
pub struct Receivers {
    all: Mutex<HashMap<u64, Weak<dyn Drain>>>,
    /// Signals that a receiver has handed out all it had.
    drained: Notify,
}

impl Receivers {
    /// Enters a receiver under a number of its own, so that a close finds it.
    ///
    /// # Errors
    /// Fails when there are too many.
    pub fn enter(
        &self,
        transport: &'static str,
        number: u64,
        receiver: Weak<dyn Drain>,
    ) -> Result<(), TransportError> {
        let mut all = self.all.lock();
        if all.len() >= limits::SUBSCRIPTIONS_MAX {
            return Err(TransportError::TooMany {
                transport,
                what: "subscriptions",
                limit: limits::SUBSCRIPTIONS_MAX,
            });
        }
        all.insert(number, receiver);
        Ok(())
    }

    /// Forgets a receiver.
    pub fn leave(&self, number: u64) {
        self.all.lock().remove(&number);
        self.drained.notify_waiters();
    }

    /// Says that a receiver may have handed out all it had.
    pub fn note_drained(&self) {
        self.drained.notify_waiters();
    }

    /// What an operator can see of each.
    #[must_use]
    pub fn stats(&self) -> Vec<QueueStats> {
        self.living()
            .iter()
            .map(|receiver| receiver.stats())
            .collect()
    }

    /// Lets all hand out what they have until the deadline. Returns how much was given up.
    pub async fn drain(&self, deadline: Instant) -> usize {
        let receivers = self.living();
        receivers.iter().cloned().for_each(Drain::stop);
        loop {
            // Made before the look, so that an end in between is not missed.
            let drained = self.drained.notified();
            if receivers.iter().all(|receiver| receiver.is_drained())
                || timeout_at(deadline, drained).await.is_err()
            {
                break;
            }
        }
        receivers.iter().map(|receiver| receiver.end()).sum()
    }

    fn living(&self) -> Vec<Arc<dyn Drain>> {
        self.all.lock().values().filter_map(Weak::upgrade).collect()
    }
}

impl std::fmt::Debug for Receivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receivers")
            .field("all", &self.all.lock().len())
            .finish_non_exhaustive()
    }
}
