//! Which worker a session belongs to, and who listens to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ClientId, WorkerId};

/// How often a full table is searched for idle sessions; searching it for every new session would
/// let a client that invents sessions slow everybody down.
const SEARCH_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Sessions {
    table: HashMap<Arc<str>, Session>,
    /// The sessions that each client uses.
    used_by: HashMap<ClientId, Vec<Arc<str>>>,
    max: usize,
    idle: Duration,
    searched: Option<Instant>,
}

#[derive(Debug)]
struct Session {
    worker: WorkerId,
    clients: Vec<ClientId>,
    used: Instant,
}

impl Sessions {
    pub(super) fn new(max: usize, idle: Duration) -> Self {
        Self {
            table: HashMap::new(),
            used_by: HashMap::new(),
            max,
            idle,
            searched: None,
        }
    }

    pub(super) fn worker_of(&self, session: &str) -> Option<WorkerId> {
        Some(self.table.get(session)?.worker)
    }

    pub(super) fn clients_of(&self, session: &str) -> &[ClientId] {
        self.table
            .get(session)
            .map_or(&[], |session| session.clients.as_slice())
    }

    /// Whether there is room for one more session, after idle ones were forgotten.
    pub(super) fn has_room(&mut self, now: Instant) -> bool {
        if self.table.len() < self.max {
            return true;
        }
        if self.searched.is_some_and(|at| now - at < SEARCH_EVERY) {
            return false;
        }
        self.searched = Some(now);
        let idle = self.idle;
        self.table.retain(|_, session| now - session.used < idle);
        self.table.len() < self.max
    }

    /// Notes that a client uses a session, and binds a new session to `worker`.
    pub(super) fn used(&mut self, name: &str, client: ClientId, worker: WorkerId, now: Instant) {
        if let Some(session) = self.table.get_mut(name) {
            session.used = now;
            if session.clients.contains(&client) {
                return;
            }
        }
        let key: Arc<str> = match self.table.get_key_value(name) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(name),
        };
        let session = self.table.entry(Arc::clone(&key)).or_insert(Session {
            worker,
            clients: Vec::new(),
            used: now,
        });
        session.clients.push(client);
        self.used_by.entry(client).or_default().push(key);
    }

    /// Forgets a client; its sessions stay.
    pub(super) fn leave(&mut self, client: ClientId) {
        for name in self.used_by.remove(&client).unwrap_or_default() {
            if let Some(session) = self.table.get_mut(&name) {
                session.clients.retain(|present| *present != client);
            }
        }
    }

    pub(super) fn forget_worker(&mut self, worker: WorkerId) {
        self.table.retain(|_, session| session.worker != worker);
        let table = &self.table;
        for names in self.used_by.values_mut() {
            names.retain(|name| table.contains_key(name));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}
