//! The session table: which worker a session belongs to, and which clients use it.
//!
//! A session outlives the client that opened it. It ends when its worker does, or when nobody
//! has used it for a while. A session with an unanswered request never expires.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smol_str::SmolStr;

use super::slab::{Key, Slab};
use super::{ClientId, Micros, WorkerId};
use crate::limits::SESSION_CLIENTS;

/// Names a session that may be gone.
pub(crate) type SessionId = Key;

#[derive(Debug)]
pub(crate) struct Session {
    name: SmolStr,
    pub(crate) worker: WorkerId,
    /// In the order in which they first used it.
    pub(crate) clients: Vec<ClientId>,
    pub(crate) in_flight: u32,
    pub(crate) last_used: Micros,
}

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_name: HashMap<SmolStr, SessionId, RandomState>,
    all: Slab<Session>,
}

impl Session {
    /// Notes that `client` uses the session. `lives` tells whether a client is still there.
    pub(crate) fn join(&mut self, client: ClientId, lives: impl Fn(ClientId) -> bool) {
        if self.clients.contains(&client) {
            return;
        }
        if self.clients.len() >= SESSION_CLIENTS {
            self.clients.retain(|other| lives(*other));
        }
        if self.clients.len() < SESSION_CLIENTS {
            self.clients.push(client);
        }
    }
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn find(&self, name: &str) -> Option<SessionId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.all.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.all.get_mut(id)
    }

    pub(crate) fn open(&mut self, name: &str, worker: WorkerId, now: Micros) -> SessionId {
        let name = SmolStr::new(name);
        let id = self.all.insert(Session {
            name: name.clone(),
            worker,
            clients: Vec::new(),
            in_flight: 0,
            last_used: now,
        });
        if let Some(old) = self.by_name.insert(name, id) {
            self.all.remove(old);
        }
        id
    }

    pub(crate) fn close(&mut self, id: SessionId) {
        if let Some(session) = self.all.remove(id) {
            self.by_name.remove(&session.name);
        }
    }

    /// Ends every session of a worker that has ended.
    pub(crate) fn close_of(&mut self, worker: WorkerId) {
        self.close_where(|session| session.worker == worker);
    }

    /// Ends the sessions that nobody has used since `before`.
    pub(crate) fn expire(&mut self, before: Micros) -> usize {
        self.close_where(|session| session.in_flight == 0 && session.last_used < before)
    }

    fn close_where(&mut self, gone: impl Fn(&Session) -> bool) -> usize {
        let ids: Vec<SessionId> = self
            .all
            .iter()
            .filter(|(_, session)| gone(session))
            .map(|(id, _)| id)
            .collect();
        for id in &ids {
            self.close(*id);
        }
        ids.len()
    }
}
