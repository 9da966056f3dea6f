//! Which session an update belongs to, and who waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use agentbus::Payload;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::session::{Offer, Session};
use super::turn::Heard;
use crate::log::{Key, Kind, SessionLog};

/// The sessions of one connection.
#[derive(Debug)]
pub(super) struct Routes {
    agent: String,
    log: Option<SessionLog>,
    sessions: Mutex<HashMap<String, Route>>,
    /// Updates for sessions that are not known, and lines that are no updates at all.
    ignored: AtomicU64,
}

/// One session, by the agent's own name for it.
#[derive(Debug)]
struct Route {
    /// What the session is called on the bus.
    key: Arc<Key>,
    /// The agent repeats what was said before, which is in the log already.
    repeating: bool,
    turn: Option<Turn>,
    offer: Arc<Mutex<Offer>>,
}

/// The turn that runs in a session.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) heard: mpsc::Sender<Heard>,
    /// Fires when the turn was told to stop: from then on nothing is allowed in it any more.
    pub(super) cancelled: CancellationToken,
    /// Questions of this turn that wait for an answer.
    pub(super) asking: Arc<AtomicUsize>,
}

impl Routes {
    pub(super) fn new(agent: &str, log: Option<SessionLog>) -> Self {
        Self {
            agent: agent.to_owned(),
            log,
            sessions: Mutex::default(),
            ignored: AtomicU64::new(0),
        }
    }

    /// Makes a session known.
    pub(super) fn open(&self, session: &str, named: &Session) {
        self.add(session, named, false);
    }

    /// Makes a session known whose history the agent repeats; [`open`](Self::open) ends that.
    pub(super) fn open_repeating(&self, session: &str, named: &Session) {
        self.add(session, named, true);
    }

    fn add(&self, session: &str, named: &Session, repeating: bool) {
        let key = Key {
            agent: self.agent.clone(),
            session: named.name.clone(),
        };
        let route = Route {
            key: Arc::new(key),
            repeating,
            turn: None,
            offer: Arc::clone(&named.offer),
        };
        self.sessions.lock().insert(session.to_owned(), route);
    }

    pub(super) fn close(&self, session: &str) {
        self.sessions.lock().remove(session);
    }

    /// Sends the session's updates to a turn from now on.
    pub(super) fn begin(&self, session: &str, turn: Turn) {
        if let Some(route) = self.sessions.lock().get_mut(session) {
            route.turn = Some(turn);
        }
    }

    pub(super) fn end(&self, session: &str) {
        if let Some(route) = self.sessions.lock().get_mut(session) {
            route.turn = None;
        }
    }

    /// What the session is called on the bus, and the turn that runs in it.
    pub(super) fn find(&self, session: &str) -> Option<(Arc<Key>, Option<Turn>)> {
        let sessions = self.sessions.lock();
        let route = sessions.get(session)?;
        Some((Arc::clone(&route.key), route.turn.clone()))
    }

    /// Hands an update to whoever waits for it, and waits while they have no room: a caller who
    /// does not read stops the agent's output.
    pub(super) async fn pass(&self, session: &str, update: Payload) {
        let (turn, key) = match self.sessions.lock().get(session) {
            Some(route) if route.repeating => return,
            // Between two turns an agent tells of its commands and modes; nobody waits for that.
            Some(route) => {
                route.offer.lock().hear(&update);
                (route.turn.clone(), Arc::clone(&route.key))
            }
            None => {
                self.ignore();
                return;
            }
        };
        // A session without a name ends with its turn, and nobody can come back to it.
        if let Some(log) = self.log.as_ref().filter(|_| !key.session.is_empty()) {
            log.append(key, Kind::Update, update.clone()).await;
        }
        if let Some(turn) = turn {
            // Fails when the caller has left; the agent is being told to stop.
            let _ = turn.heard.send(Heard::Update(update)).await;
        }
    }

    pub(super) fn ignore(&self) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }
}
