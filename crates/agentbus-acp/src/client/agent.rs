//! One agent: its process while it has one, its sessions, and how both are taken up again.

use std::collections::BTreeMap;
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
use super::link::{Link, StartError};
use super::routes::Routes;
use super::session::{At, Session, Sessions, Slot};
use super::{AgentStatus, BusServer, BusServers, refusal};
use crate::company::{Company, Serves};
use crate::config::AgentConfig;
use crate::decide::Decider;
use crate::limits;
use crate::log::{Key, Kind, SessionLog};
use crate::sdk::driving::Fault;
use crate::sdk::place::Place;

/// An agent behind its target.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) config: AgentConfig,
    ground: Option<Arc<Ground>>,
    decider: Arc<dyn Decider>,
    company: Company,
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
    /// By what they were told that is served: an agent asks a client for nothing else, so that
    /// editors that serve different things need processes of their own.
    links: BTreeMap<Serves, Arc<Link>>,
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
        (decider, company): (Arc<dyn Decider>, Company),
        bus_servers: Arc<OnceLock<BusServers>>,
        log: Option<SessionLog>,
    ) -> Self {
        Self {
            sessions: Sessions::new(config.limits.sessions),
            config,
            ground,
            decider,
            company,
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

    /// Returns the process that has the session, one that was told of what is served, or starts one.
    pub(super) async fn link(&self, at: Option<&At>, asked: Serves) -> Result<Arc<Link>, Error> {
        let mut running = self.running.lock().await;
        if self.stopping.is_cancelled() {
            return Err(refusal::stopping());
        }
        running.links.retain(|_, link| !link.is_gone());
        if let Some(link) = running.at(at) {
            return Ok(link);
        }
        let serves = match self.ground {
            Some(_) => Serves::ALL,
            None => asked,
        };
        if let Some(link) = running.links.get(&serves) {
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
        match self.start(running.epoch, serves).await? {
            Ok(link) => {
                tracing::info!(agent = %name, pid = link.pid, says = link.abilities.name, "an agent runs");
                let link = Arc::new(link);
                running.failed = None;
                running.links.insert(serves, Arc::clone(&link));
                Ok(link)
            }
            Err(problem) => {
                let error = refusal::not_started(name, &problem);
                running.failed = Some(Failed::after(running.failed.take(), &error));
                Err(error)
            }
        }
    }

    /// Starts a process, unless the host stops meanwhile.
    async fn start(&self, epoch: u64, serves: Serves) -> Result<Result<Link, StartError>, Error> {
        let routes = Arc::new(Routes::new(&self.config.name, self.log.clone()));
        let host = AgentHost::new(
            &self.config,
            (&self.decider, &self.company),
            &self.ground,
            Arc::clone(&routes),
        );
        let process = (epoch, serves);
        let started = Link::start(&self.config, process, routes, host, &self.connections);
        tokio::select! {
            started = started => Ok(started),
            () = self.stopping.cancelled() => Err(refusal::stopping()),
        }
    }

    /// Opens a session outside of a turn. Whoever has the turn has opened it.
    pub(super) async fn ready(&self, session: &Session) -> Result<(), Error> {
        let Some(mut slot) = session.free_turn() else {
            return Ok(());
        };
        let serves = session.setup().serves;
        let link = self.link(slot.at.as_ref(), serves).await?;
        self.open(&link, &mut slot, session).await.map(drop)
    }

    /// Makes sure that the session is open in this process.
    pub(super) async fn open(
        &self,
        link: &Link,
        slot: &mut Slot,
        session: &Session,
    ) -> Result<Opened, Error> {
        let name = session.name.as_str();
        let known = match slot.at.take() {
            Some(at) if at.epoch == link.epoch => {
                slot.at = Some(at);
                return Ok(Opened::Kept);
            }
            None if !slot.looked => self.remembered(name).await,
            known => known,
        };
        slot.looked = true;
        let opened = self.open_anew(link, slot, session, known).await?;
        session.open.lock().clone_from(&slot.at);
        if let (Some(log), Some(at)) = (self.log(name), &slot.at) {
            let data = json!({ "opened": opened, "agent_session": at.id });
            log.opened(self.key(name), &at.id, Payload::json(&data)?)
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
        session: &Session,
        known: Option<At>,
    ) -> Result<Opened, Error> {
        let was_known = known.is_some();
        let epoch = link.epoch;
        if let Some(at) = known
            && let Some(opened) = self.take_up(link, &at.id, session).await?
        {
            slot.at = Some(At { id: at.id, epoch });
            return Ok(opened);
        }
        let opening = link.caller.open(self.place(link, session));
        let (id, offer) = self
            .patiently(link, opening)
            .await?
            .map_err(|fault| refusal::answered(&self.config.name, &fault, &link.abilities))?;
        *session.offer.lock() = offer;
        link.routes.open(&id, session);
        slot.at = Some(At { id, epoch });
        Ok(if was_known { Opened::Lost } else { Opened::New })
    }

    /// Takes up a session of an earlier process; `None` if the agent cannot.
    async fn take_up(
        &self,
        link: &Link,
        id: &str,
        session: &Session,
    ) -> Result<Option<Opened>, Error> {
        let place = self.place(link, session);
        // Before the call: an agent that loads repeats the history first.
        link.routes.open_repeating(id, session);
        let (taken, opened) = if link.abilities.resume {
            let taken = self.patiently(link, link.caller.resume(id, place));
            (taken.await?, Opened::Resumed)
        } else if link.abilities.load {
            let taken = self.patiently(link, link.caller.load(id, place));
            (taken.await?, Opened::Loaded)
        } else {
            link.routes.close(id);
            return Ok(None);
        };
        match taken {
            Ok(offer) => {
                *session.offer.lock() = offer;
                link.routes.open(id, session);
                Ok(Some(opened))
            }
            Err(fault) => {
                tracing::info!(agent = %self.config.name, session = %id, fault = %fault.message, "an agent cannot take up a session");
                link.routes.close(id);
                Ok(None)
            }
        }
    }

    /// Where the session works in this process.
    fn place(&self, link: &Link, session: &Session) -> Place {
        let (cwd, bus) = (self.config.directory(), self.bus_server());
        Place::new(&link.abilities, cwd, &session.setup(), bus)
    }

    pub(super) async fn patiently<T>(
        &self,
        link: &Link,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Fault>, Error> {
        let (name, opening) = (&self.config.name, self.config.limits.opening());
        let answer = tokio::time::timeout(opening, link.answer(answer));
        answer
            .await
            .map_err(|_| refusal::session_not_opened(name, opening.as_secs()))?
            .map_err(|gone| refusal::died(name, &gone, &link.abilities))
    }

    /// Has the agent forget a session, if it can and still runs.
    pub(super) async fn close(&self, at: Option<At>) {
        let Some(at) = at else { return };
        let Some(link) = self.running.lock().await.at(Some(&at)) else {
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
            log.append(self.key(name), kind, data).await;
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
            Ok(running) => {
                let alive = || running.links.values().filter(|link| !link.is_gone());
                match alive().next() {
                    Some(link) => {
                        let ignored = alive().map(|link| link.routes.ignored()).sum();
                        ("running", Some(link.pid), ignored)
                    }
                    None if running.failed.is_some() => ("failing", None, 0),
                    None => ("asleep", None, 0),
                }
            }
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
        let links = std::mem::take(&mut self.running.lock().await.links);
        // The turns first: an agent that is told to stop may still say where it got to.
        self.turns.close();
        let _ = tokio::time::timeout(limits::STOP_GRACE, self.turns.wait()).await;
        futures_util::future::join_all(links.values().map(|link| link.stop())).await;
        self.turns.wait().await;
        self.connections.close();
        self.connections.wait().await;
    }
}

impl Running {
    /// The process in which a session is open, while it runs.
    fn at(&self, at: Option<&At>) -> Option<Arc<Link>> {
        let epoch = at?.epoch;
        let found = self.links.values().find(|link| link.epoch == epoch);
        found.filter(|link| !link.is_gone()).cloned()
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
