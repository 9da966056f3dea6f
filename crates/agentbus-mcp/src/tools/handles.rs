//! What stays open between calls: streams of agents and subscriptions to events.
//!
//! A handle is minted here and travels through the arguments of tools, because a client of the
//! newest revision has no session to keep it in. It is good for the one who got it.

use std::collections::HashMap;
use std::sync::Arc;

use agentbus::{Frames, Subscription};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::time::Instant;

use crate::{Principal, limits};

/// Something open.
pub(crate) enum Open {
    Stream(Box<Frames>),
    Events(Subscription),
}

/// One call at a time reads from it.
pub(crate) type Shared = Arc<tokio::sync::Mutex<Open>>;

struct Held {
    principal: Principal,
    used: Instant,
    open: Shared,
}

/// All handles.
#[derive(Default)]
pub(crate) struct Handles(Mutex<HashMap<String, Held>>);

impl Handles {
    /// Keeps something open; none if there is too much open already.
    pub(crate) fn keep(&self, principal: &Principal, open: Open) -> Option<String> {
        let random: [u8; 16] = rand::rng().random();
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut held = self.0.lock();
        if held.len() >= limits::HANDLES_MAX {
            return None;
        }
        let entry = Held {
            principal: principal.clone(),
            used: Instant::now(),
            open: Arc::new(tokio::sync::Mutex::new(open)),
        };
        held.insert(id.clone(), entry);
        Some(id)
    }

    pub(crate) fn get(&self, id: &str, principal: &Principal) -> Option<Shared> {
        let mut held = self.0.lock();
        let entry = held.get_mut(id)?;
        if entry.principal != *principal {
            return None;
        }
        entry.used = Instant::now();
        Some(Arc::clone(&entry.open))
    }

    pub(crate) fn drop(&self, id: &str) {
        self.0.lock().remove(id);
    }

    /// Closes what was not used for long; one that is being read is in use.
    pub(crate) fn sweep(&self) {
        self.0.lock().retain(|_, held| {
            Arc::strong_count(&held.open) > 1 || held.used.elapsed() < limits::HANDLE_IDLE
        });
    }
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles")
            .field("open", &self.0.lock().len())
            .finish()
    }
}
