//! What a server says on the side of the connection: what it refused, and that it is there again.
//!
//! A server answers a forbidden subscription with an error line that names the subject and nothing
//! else. Whoever subscribed finds it here.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::limits;

/// The latest refusals, and how often the connection was made.
#[derive(Debug)]
pub(crate) struct Events {
    refusals: Mutex<VecDeque<String>>,
    connections: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            refusals: Mutex::default(),
            connections: watch::Sender::new(0),
        }
    }
}

impl Events {
    pub(crate) fn note_refusal(&self, text: String) {
        let mut texts = self.refusals.lock();
        if texts.len() >= limits::REFUSALS {
            texts.pop_front();
        }
        texts.push_back(text);
    }

    /// Takes the refusal of a subscription to `pattern`, if there is one.
    pub(crate) fn refusal_of(&self, pattern: &str) -> Option<String> {
        let named = format!("subscription to \"{pattern}\"");
        let mut texts = self.refusals.lock();
        let at = texts
            .iter()
            .position(|text| text.to_lowercase().contains(&named.to_lowercase()))?;
        texts.remove(at)
    }

    pub(crate) fn note_connection(&self) {
        self.connections.send_modify(|count| *count += 1);
    }

    /// Changes with every connection that is made.
    pub(crate) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }
}
