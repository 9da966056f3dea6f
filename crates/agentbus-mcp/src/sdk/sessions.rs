//! Sessions over HTTP: who they belong to, how many there are, and when an unused one ends.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rmcp::transport::streamable_http_server::SessionManager;
use rmcp::transport::streamable_http_server::session::local::{LocalSessionManager, SessionConfig};
use tokio::time::Instant;

use crate::{Principal, limits};

/// All sessions. Cloning gives another handle to the same ones.
#[derive(Clone)]
pub(crate) struct Sessions {
    manager: Arc<LocalSessionManager>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

struct Known {
    principal: Principal,
    used: Instant,
    /// Answers that are still being read.
    open: usize,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        let mut config = SessionConfig::default();
        // The SDK knows only when a session last moved; a call that waits for hours does not.
        config.keep_alive = None;
        let mut manager = LocalSessionManager::default();
        manager.session_config = config;
        Self {
            manager: Arc::new(manager),
            known: Arc::default(),
        }
    }

    pub(crate) fn manager(&self) -> Arc<LocalSessionManager> {
        Arc::clone(&self.manager)
    }

    /// Whether a session is the principal's. One of somebody else is as unknown as one that never was.
    pub(crate) fn belongs(&self, id: &str, principal: &Principal) -> bool {
        let mut known = self.known.lock();
        let Some(session) = known.get_mut(id) else {
            return false;
        };
        session.used = Instant::now();
        session.principal == *principal
    }

    /// Notes a session that was just opened.
    pub(crate) fn opened(&self, id: &str, principal: Principal) {
        let session = Known {
            principal,
            used: Instant::now(),
            open: 0,
        };
        self.known.lock().insert(id.to_owned(), session);
    }

    pub(crate) fn closed(&self, id: &str) {
        self.known.lock().remove(id);
    }

    /// Notes an answer on a session, until the guard is dropped.
    pub(crate) fn answering(&self, id: &str) -> Answering {
        if let Some(session) = self.known.lock().get_mut(id) {
            session.open += 1;
        }
        Answering {
            sessions: self.clone(),
            id: id.to_owned(),
        }
    }

    /// Makes room for one more session; whether there is some.
    pub(crate) async fn make_room(&self) -> bool {
        let victim = {
            let known = self.known.lock();
            if known.len() < limits::SESSIONS_MAX {
                return true;
            }
            let idle = known.iter().filter(|(_, session)| session.open == 0);
            idle.min_by_key(|(_, session)| session.used)
                .map(|(id, _)| id.clone())
        };
        match victim {
            Some(id) => {
                self.end(&id).await;
                true
            }
            None => false,
        }
    }

    /// Ends the sessions that nobody has used for long.
    pub(crate) async fn sweep(&self) {
        let overdue: Vec<String> = {
            let known = self.known.lock();
            let overdue = known.iter().filter(|(_, session)| {
                session.open == 0 && session.used.elapsed() >= limits::SESSION_IDLE
            });
            overdue.map(|(id, _)| id.clone()).collect()
        };
        for id in overdue {
            self.end(&id).await;
        }
    }

    async fn end(&self, id: &str) {
        self.closed(id);
        if let Err(error) = self.manager.close_session(&id.into()).await {
            tracing::debug!(%error, "a session had ended already");
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.known.lock().len()
    }
}

/// An answer that is being read.
pub(crate) struct Answering {
    sessions: Sessions,
    id: String,
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(session) = self.sessions.known.lock().get_mut(&self.id) {
            session.open = session.open.saturating_sub(1);
            session.used = Instant::now();
        }
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_unused_session_ends_and_a_used_one_stays() {
        let sessions = Sessions::new();
        let principal = Principal::new("a");
        for id in ["idle", "used", "open"] {
            sessions.opened(id, principal.clone());
        }
        let answering = sessions.answering("open");
        tokio::time::advance(limits::SESSION_IDLE / 2).await;
        assert!(sessions.belongs("used", &principal));
        assert!(!sessions.belongs("used", &Principal::new("b")));
        tokio::time::advance(limits::SESSION_IDLE / 2).await;
        sessions.sweep().await;
        assert!(!sessions.belongs("idle", &principal));
        assert!(sessions.belongs("used", &principal));
        drop(answering);
        tokio::time::advance(limits::SESSION_IDLE).await;
        sessions.sweep().await;
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_house_lets_the_longest_idle_session_go() {
        let sessions = Sessions::new();
        let principal = Principal::new("a");
        for number in 0..limits::SESSIONS_MAX {
            sessions.opened(&number.to_string(), principal.clone());
            if number == 0 {
                tokio::time::advance(limits::SWEEP).await;
            }
        }
        assert!(sessions.make_room().await);
        assert!(!sessions.belongs("0", &principal));
        let all: Vec<_> = (0..limits::SESSIONS_MAX)
            .map(|number| sessions.answering(&number.to_string()))
            .collect();
        sessions.opened("last", principal);
        let _last = sessions.answering("last");
        assert!(!sessions.make_room().await, "all of them are in use");
        drop(all);
    }
}
