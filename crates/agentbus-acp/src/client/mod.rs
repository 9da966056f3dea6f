//! Agents as targets of the bus: `stream` is a prompt, `invoke` is one whose answer comes at once.
//!
//! A process is started when the first prompt needs it, and again when it has died. Sessions are
//! those of the envelopes; within one, a turn follows the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use agentbus::{Bus, Error, Json, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::AgentConfig;
use crate::decide::Decider;
use crate::limits;
use crate::log::SessionLog;

mod agent;
mod editors;
mod files;
mod host;
mod intake;
mod link;
mod prompt;
mod refusal;
mod routes;
mod session;
mod terminals;
mod turn;
mod visits;

use agent::Agent;
pub(crate) use editors::{Change, Refused};
use files::Ground;
pub(crate) use refusal::{Stopped, bus_stopped};
pub(crate) use session::{Offer, Setup};
pub(crate) use turn::TURN_MARK;

use crate::company::Company;

/// Target through which agents are listed and their sessions closed.
pub const OPERATOR: &str = "agentbus.agents";

/// The agents that a bus drives. A handle that can be cloned and shared.
#[derive(Debug, Clone)]
pub struct AgentTargets {
    agents: Arc<BTreeMap<String, Arc<Agent>>>,
    bus_servers: Arc<OnceLock<BusServers>>,
    company: Company,
}

/// How an agent starts the MCP server that gives it the tools of the bus.
#[derive(Debug, Clone)]
pub struct BusServer {
    /// The program, by its full path.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment; the token is one of them.
    pub env: Vec<(String, String)>,
}

/// What there is to know of an agent.
#[derive(Debug, Clone, Serialize)]
pub struct AgentStatus {
    /// Its name, which is its target.
    pub agent: String,
    /// `asleep` before its first prompt, then `starting`, `running`, or `failing`.
    pub state: &'static str,
    /// Its process.
    pub pid: Option<i32>,
    /// The sessions that are remembered.
    pub sessions: Vec<String>,
    /// Updates for sessions that nobody knows.
    pub ignored_updates: u64,
}

/// The tools of the bus, for each agent by its name.
pub(super) type BusServers = BTreeMap<String, BusServer>;

/// What can be asked for, as `{"do":"list"}`.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Order {
    /// Tell about all agents.
    List,
    /// Close a session that has no turn.
    Close { agent: String, session: String },
}

impl AgentTargets {
    /// Serves each agent under its name, and keeps what happens in its sessions in the log, if there
    /// is one. No agent is started before it is needed.
    ///
    /// # Errors
    ///
    /// When a configuration is wrong, a name is there twice, or a name cannot be a target.
    pub async fn start(
        bus: &Bus,
        configs: Vec<AgentConfig>,
        decider: Arc<dyn Decider>,
        log: Option<SessionLog>,
    ) -> Result<Self, Error> {
        let bus_servers = Arc::<OnceLock<BusServers>>::default();
        let company = Company::default();
        let mut agents = BTreeMap::new();
        for config in configs {
            config
                .check()
                .map_err(|error| Error::Setup(error.to_string()))?;
            let name = config.name.clone();
            let ground = ground(&config)?;
            let askable = (Arc::clone(&decider), company.clone());
            let servers = Arc::clone(&bus_servers);
            let agent = Arc::new(Agent::new(config, ground, askable, servers, log.clone()));
            if agents.insert(name.clone(), agent).is_some() {
                return Err(Error::Setup(format!("there are two agents named `{name}`")));
            }
        }
        let targets = Self {
            agents: Arc::new(agents),
            bus_servers,
            company,
        };
        targets.serve(bus).await?;
        Ok(targets)
    }

    async fn serve(&self, bus: &Bus) -> Result<(), Error> {
        for (name, agent) in self.agents.iter() {
            let agent = Arc::clone(agent);
            let handler = move |request, out| turn::run(Arc::clone(&agent), request, out);
            let handle = bus.handle_stream(name.as_str(), handler);
            handle.concurrency(limits::TURNS_MAX).await?;
        }
        let targets = self.clone();
        bus.handle(OPERATOR, move |request| operate(targets.clone(), request))
            .await?;
        Ok(())
    }

    /// Gives the tools of the bus to every session from now on; only the first call counts. The
    /// server is asked for by the name of each agent, so that the bus can tell them apart.
    pub fn offer(&self, server_of: impl Fn(&str) -> BusServer) {
        let servers = self
            .agents
            .keys()
            .map(|name| (name.clone(), server_of(name)));
        let _ = self.bus_servers.set(servers.collect());
    }

    /// Tells about every agent.
    #[must_use]
    pub fn list(&self) -> Vec<AgentStatus> {
        self.agents.values().map(|agent| agent.status()).collect()
    }

    /// Ends the turns, and has each say in the log that the bus did. No other begins.
    pub(crate) fn stop(&self) {
        for agent in self.agents.values() {
            agent.stopping.cancel();
        }
    }

    /// Cancels what is under way and ends every process.
    pub async fn shutdown(&self) {
        let ending = self.agents.values().map(|agent| agent.shutdown());
        futures_util::future::join_all(ending).await;
    }

    fn find(&self, name: &str) -> Result<&Arc<Agent>, Error> {
        self.agents.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.agents.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Error::invalid_request(format!("there is no agent `{name}`; there is {known}"))
        })
    }
}

async fn operate(targets: AgentTargets, request: Request) -> Result<Json<Value>, Error> {
    match request.json()? {
        Order::List => Ok(Json(json!({ "agents": targets.list() }))),
        Order::Close { agent, session } => {
            let closed = targets.find(&agent)?.close_named(&session).await?;
            Ok(Json(json!({ "closed": closed })))
        }
    }
}

fn ground(config: &AgentConfig) -> Result<Option<Arc<Ground>>, Error> {
    let Some(root) = &config.root else {
        return Ok(None);
    };
    let ground = Ground::open(root).map_err(|error| {
        Error::Setup(format!(
            "agents.{}: root {}: {error}",
            config.name,
            root.display()
        ))
    })?;
    Ok(Some(Arc::new(ground)))
}
