//! Sessions of the older HTTP transport: events one way, requests the other, joined by an id.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngExt;

use crate::sdk::{Incoming, Posted};
use crate::{Fault, PipeError, Principal, Visitor, limits};

/// All of them. Cloning gives another handle to the same ones.
#[derive(Debug, Clone, Default)]
pub struct Pipes(Arc<Mutex<HashMap<String, (Principal, Incoming)>>>);

impl Pipes {
    pub(crate) fn add(
        &self,
        principal: Principal,
        incoming: Incoming,
    ) -> Result<(String, Entry), Fault> {
        let mut pipes = self.0.lock();
        if pipes.len() >= limits::SESSIONS_MAX {
            return Err(Fault::failed(
                "all sessions are in use; try again when one has ended",
            ));
        }
        let random: [u8; 16] = rand::rng().random();
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        pipes.insert(id.clone(), (principal, incoming));
        let entry = Entry {
            pipes: self.clone(),
            id: id.clone(),
        };
        Ok((id, entry))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether there is such a session of the principal.
    #[must_use]
    pub fn has(&self, id: &str, principal: &Principal) -> bool {
        let pipes = self.0.lock();
        pipes.get(id).is_some_and(|(owner, _)| owner == principal)
    }

    /// Hands a message in that a client has sent for a session. One of somebody else is as unknown
    /// as one that never was.
    ///
    /// # Errors
    /// Fails when there is no such session, or when the message is none.
    pub async fn send(&self, id: &str, visitor: &Visitor, message: &[u8]) -> Result<(), PipeError> {
        let principal = &visitor.principal;
        let incoming = {
            let pipes = self.0.lock();
            let found = pipes.get(id).filter(|(owner, _)| owner == principal);
            found.map(|(_, incoming)| incoming.clone())
        };
        let posted = Posted {
            session: id.to_owned(),
            trace: visitor.trace,
        };
        let incoming = incoming.ok_or(PipeError::Ended)?;
        incoming.send(message, posted).await
    }
}

/// An id in use.
#[derive(Debug)]
pub(crate) struct Entry {
    pipes: Pipes,
    id: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.pipes.0.lock().remove(&self.id);
    }
}
