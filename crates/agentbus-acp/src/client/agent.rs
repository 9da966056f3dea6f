//! One agent: its process while it has one, its sessions, and how both are taken up again.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agentbus::{Error, Payload};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::files::Ground;
use super::host::AgentHost;
use super::link::Link;
use super::routes::Routes;
use super::session::{At, Session, Sessions, Slot};
use super::{AgentStatus, BusServer, BusServers, refusal};
use crate::config::AgentConfig;
use crate::decide::Decider;
use crate::limits;
use crate::log::{Key, Kind, SessionLog};

/// An agent behind its target.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) config: AgentConfig,
    ground: Option<Arc<Ground>>,
    decider: Arc<dyn Decider>,
    bus_servers: Arc<OnceLock<BusServers>>,
    log: Option<SessionLog>,
    sessions: Sessions,
    /// Held while a process starts, so that callers who need one wait for the same.
    running: tokio::sync::Mutex<Running>,
    /// Waited for before the connections are ended.
    pub(super) turns: TaskTracker,
    connections: TaskTracker,
    pub(super) stopping: CancellationToken,
}

#[derive(Debug, Default)]
struct Running {
    link: Option<Arc<Link>>,
    epoch: u64,
    failed: Option<Failed>,
}

/// The last attempts to start.
#[derive(Debug)]
struct Failed {
    times: u32,
    again_at: Instant,
    sentence: String,
}

/// How a session came to be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Opened {
    /// It is new.
    New,
    /// It was open already.
    Kept,
    /// A new process took it up again.
    Resumed,
    /// A new process took it up again from its history.
    Loaded,
    /// A new process cannot take it up again: the agent has forgotten what was said.
    Lost,
}

impl Agent {
    pub(super) fn new(
        config: AgentConfig,
        ground: Option<Arc<Ground>>,
        decider: Arc<dyn Decider>,
        bus_servers: Arc<OnceLock<BusServers>>,
        log: Option<SessionLog>,
    ) -> Self {
        Self {
            sessions: Sessions::new(config.limits.sessions),
            config,
            ground,
            decider,
            bus_servers,
            log,
            running: tokio::sync::Mutex::default(),
            turns: TaskTracker::new(),
            connections: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Finds a session or makes room for it.
    pub(super) fn session(self: &Arc<Self>, name: &str) -> Result<Arc<Session>, Error> {
        let found = self.sessions.get(name);
        let (session, gone) = found.map_err(|_| {
            refusal::too_many_sessions(&self.config.name, self.config.limits.sessions)
        })?;
        if gone.is_some() {
            let agent = Arc::clone(self);
            self.turns.spawn(async move { agent.close(gone).await });
        }
        Ok(session)
    }

    /// Returns the running process, or starts one.
    pub(super) async fn link(&self) -> Result<Arc<Link>, Error> {
        let mut running = self.running.lock().await;
        if self.stopping.is_cancelled() {
            return Err(refusal::stopping());
        }
        if let Some(link) = running.link.as_ref().filter(|link| !link.is_gone()) {
            return Ok(Arc::clone(link));
        }
        let name = &self.config.name;
        if let Some(failed) = &running.failed {
            let pause = failed.again_at.saturating_duration_since(Instant::now());
            if !pause.is_zero() {
                let seconds = pause.as_secs() + 1;
                return Err(refusal::pausing(name, seconds, &failed.sentence));
            }
        }
        running.epoch += 1;
        let routes = Arc::new(Routes::new(name, self.log.clone()));
        let host = AgentHost::new(
            &self.config,
            &self.decider,
            &self.ground,
            Arc::clone(&routes),
        );
        let started = Link::start(&self.config, running.epoch, routes, host, &self.connections);
        let started = tokio::select! {
            started = started => started,
            () = self.stopping.cancelled() => return Err(refusal::stopping()),
        };
        match started {
            Ok(link) => {
                tracing::info!(agent = %name, pid = link.pid, says = link.abilities.name, "an agent runs");
                let link = Arc::new(link);
                running.failed = None;
                running.link = Some(Arc::clone(&link));
                Ok(link)
            }
            Err(problem) => {
                let error = refusal::not_started(name, &problem);
                running.failed = Some(Failed::after(running.failed.take(), &error));
                Err(error)
            }
        }
    }

    /// Makes sure that the session is open in this process.
    pub(super) async fn open(
        &self,
        link: &Link,
        slot: &mut Slot,
        name: &str,
    ) -> Result<Opened, Error> {
        let known = match slot.at.take() {
            Some(at) if at.epoch == link.epoch => {
                slot.at = Some(at);
                return Ok(Opened::Kept);
            }
            None if !slot.looked => self.remembered(name).await,
            known => known,
        };
        slot.looked = true;
        let opened = self.open_anew(link, slot, name, known).await?;
        if let (Some(log), Some(at)) = (self.log(name), &slot.at) {
            let data = json!({ "opened": opened, "agent_session": at.id });
            log.opened(&self.key(name), &at.id, Payload::json(&data)?)
                .await;
        }
        Ok(opened)
    }

    /// What the session was before this process began.
    async fn remembered(&self, name: &str) -> Option<At> {
        let id = self.log(name)?.agent_session(&self.key(name)).await?;
        Some(At { id, epoch: 0 })
    }

    async fn open_anew(
        &self,
        link: &Link,
        slot: &mut Slot,
        name: &str,
        known: Option<At>,
    ) -> Result<Opened, Error> {
        let was_known = known.is_some();
        if let Some(at) = known
            && let Some(opened) = self.take_up(link, &at.id, name).await?
        {
            slot.at = Some(At {
                id: at.id,
                epoch: link.epoch,
            });
            return Ok(opened);
        }
        let opening = link.caller.open(self.config.directory(), self.bus_server());
        let id = self
            .patiently(link, opening)
            .await?
            .map_err(|fault| refusal::answered(&self.config.name, &fault, &link.abilities))?;
        link.routes.open(&id, name);
        slot.at = Some(At {
            id,
            epoch: link.epoch,
        });
        Ok(if was_known { Opened::Lost } else { Opened::New })
    }

    /// Takes up a session of an earlier process; `None` if the agent cannot.
    async fn take_up(&self, link: &Link, id: &str, name: &str) -> Result<Option<Opened>, Error> {
        let cwd = self.config.directory();
        let bus = self.bus_server();
        // Before the call: an agent that loads repeats the history first.
        link.routes.open_repeating(id, name);
        let (taken, opened) = if link.abilities.resume {
            let taken = self.patiently(link, link.caller.resume(id, cwd, bus));
            (taken.await?, Opened::Resumed)
        } else if link.abilities.load {
            let taken = self.patiently(link, link.caller.load(id, cwd, bus));
            (taken.await?, Opened::Loaded)
        } else {
            link.routes.close(id);
            return Ok(None);
        };
        match taken {
            Ok(()) => {
                link.routes.open(id, name);
                Ok(Some(opened))
            }
            Err(fault) => {
                tracing::info!(agent = %self.config.name, session = %id, fault = %fault.message, "an agent cannot take up a session");
                link.routes.close(id);
                Ok(None)
            }
        }
    }

    async fn patiently<T>(
        &self,
        link: &Link,
        answer: impl Future<Output = Result<T, crate::sdk::driving::Fault>>,
    ) -> Result<Result<T, crate::sdk::driving::Fault>, Error> {
        let name = &self.config.name;
        let answer = tokio::time::timeout(limits::SESSION_OPENING, link.answer(answer));
        answer
            .await
            .map_err(|_| refusal::session_not_opened(name))?
            .map_err(|gone| refusal::died(name, &gone))
    }

    /// Has the agent forget a session, if it can and still runs.
    pub(super) async fn close(&self, at: Option<At>) {
        let Some(at) = at else { return };
        let link = self.running.lock().await.link.clone();
        let Some(link) = link.filter(|link| link.epoch == at.epoch && !link.is_gone()) else {
            return;
        };
        link.routes.close(&at.id);
        if link.abilities.close {
            let closing = link.answer(link.caller.close(&at.id));
            let closed = tokio::time::timeout(self.config.limits.cancel(), closing).await;
            tracing::debug!(agent = %self.config.name, session = %at.id, ?closed, "a session was closed");
        }
    }

    /// Closes a session that has no turn.
    pub(super) async fn close_named(&self, name: &str) -> Result<bool, Error> {
        let at = self.sessions.forget(name).map_err(|_| {
            Error::invalid_request(format!("the session `{name}` has a turn; cancel it first"))
        })?;
        let known = at.is_some();
        self.close(at).await;
        Ok(known)
    }

    /// The log, for a session that has a name.
    fn log(&self, name: &str) -> Option<&SessionLog> {
        self.log.as_ref().filter(|_| !name.is_empty())
    }

    fn key(&self, name: &str) -> Key {
        Key {
            agent: self.config.name.clone(),
            session: name.to_owned(),
        }
    }

    /// Notes what happens in a session.
    pub(super) async fn note(&self, name: &str, kind: Kind, what: &Value) {
        if let (Some(log), Ok(data)) = (self.log(name), Payload::json(what)) {
            log.append(&self.key(name), kind, data).await;
        }
    }

    fn bus_server(&self) -> Option<&BusServer> {
        let servers = self.bus_servers.get().filter(|_| self.config.bus_tools);
        servers?.get(&self.config.name)
    }

    pub(super) fn status(&self) -> AgentStatus {
        // While a process starts, the lock is held.
        let (state, pid, ignored) = match self.running.try_lock() {
            Err(_) => ("starting", None, 0),
            Ok(running) => match running.link.as_ref().filter(|link| !link.is_gone()) {
                Some(link) => ("running", Some(link.pid), link.routes.ignored()),
                None if running.failed.is_some() => ("failing", None, 0),
                None => ("asleep", None, 0),
            },
        };
        AgentStatus {
            agent: self.config.name.clone(),
            state,
            pid,
            sessions: self.sessions.names(),
            ignored_updates: ignored,
        }
    }

    /// Cancels the turns, ends the process, and waits for both.
    pub(super) async fn shutdown(&self) {
        self.stopping.cancel();
        let link = self.running.lock().await.link.take();
        // The turns first: an agent that is told to stop may still say where it got to.
        self.turns.close();
        let _ = tokio::time::timeout(limits::STOP_GRACE, self.turns.wait()).await;
        if let Some(link) = link {
            link.stop().await;
        }
        self.turns.wait().await;
        self.connections.close();
        self.connections.wait().await;
    }
}

impl Failed {
    fn after(before: Option<Self>, error: &Error) -> Self {
        let times = before.map_or(0, |before| before.times) + 1;
        // The first failure may be tried again at once: it is often the user who is at work.
        let pause = match times {
            1 => Duration::ZERO,
            times => Duration::from_secs(1 << (times - 2).min(5)).min(limits::RESTART_PAUSE),
        };
        Self {
            times,
            again_at: Instant::now() + pause,
            sentence: error.to_payload().message,
        }
    }
}
