//! `agentbus serve`.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agentbus::Bus;
use agentbus_acp::{AgentTargets, BusServer, Editors, SessionLog};
use agentbus_server::{
    AuthMode, Board, DataDir, Figures, RunningServer, Server, ServerConfig, ServerError,
};
use agentbus_stdio::PoolTargets;
use agentbus_transport_ws::credentials;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Auth;
use crate::config::{Config, not_kept};
use crate::failure::{Exit, Failure};
use crate::log::{self, Log};
use crate::memory;
use crate::output::Output;
use crate::telemetry::Telemetry;

pub(crate) async fn serve(
    config: Config,
    telemetry: &Telemetry,
    output: &Output,
) -> Result<(), Failure> {
    let _log = Log::start(&config.log, output)?;
    // Listened for before the port is open, so that no early signal is missed.
    let mut stop = std::pin::pin!(stop_signal());
    let (server, beside) = tokio::select! {
        started = start(&config, telemetry) => started?,
        // Nobody could have called yet, so there is nothing to finish.
        signal = &mut stop => return Err(Failure::new(signal, "stopped before it had started")),
    };
    announce(&server, output)?;
    stop.await;
    // Listened for before it is said that there is something to wait for.
    let again = stop_signal();
    output.note("stopping: finishing what was accepted; a second Ctrl-C does not wait for it");
    let end = async {
        server.shutdown().await;
        beside.end().await;
        Ok(())
    };
    tokio::select! {
        ended = end => ended,
        signal = again => {
            Err(Failure::new(signal, "stopped at once; what was under way is not finished"))
        }
    }
}

/// What runs beside the host, and ends after those who could call it.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pools: Option<PoolTargets>,
    agents: Option<AgentTargets>,
    editors: Option<Editors>,
    /// Closed when the agents have said their last.
    log: Option<SessionLog>,
}

impl Beside {
    /// Ends what editors have asked for.
    pub(super) async fn end_turns(&self) {
        if let Some(editors) = &self.editors {
            editors.close().await;
        }
    }

    /// Ends every process.
    pub(super) async fn end(self) {
        let agents = async {
            if let Some(agents) = &self.agents {
                agents.shutdown().await;
            }
        };
        // Their turns wait for the agents, which are ended if they do not stop.
        tokio::join!(agents, self.end_turns());
        if let Some(pools) = self.pools {
            pools.shutdown().await;
        }
        if let Some(log) = self.log {
            log.close().await;
        }
    }
}

/// Starts the bus and everything around it.
pub(super) async fn start(
    config: &Config,
    telemetry: &Telemetry,
) -> Result<(RunningServer, Beside), Failure> {
    let lines = log::keep();
    if let Some(told) = not_kept() {
        tracing::warn!("{told}");
    }
    config.check_names()?;
    memory::tend();
    let (mut host, pools) = (server_config(config)?, config.pools()?);
    DataDir::check(&host.data_dir)?;
    check_port(&host)?;
    let bus = Bus::builder("agentbus")
        .transport(config.transport.as_str())
        .schemas(config.schemas()?)
        .metered();
    let bus = telemetry
        .observe(config.within_subjects(bus))
        .connect()
        .await;
    let bus = bus.map_err(|error| misconfigured("transport: ", error))?;
    let board = Board::new(bus.clone());
    host.sessions = Some(SessionLog::open(host.data_dir.join("sessions.db"))?);
    host.decisions = Some(board.clone());
    host.log = Some(lines);
    let mut beside = Beside {
        log: host.sessions.clone(),
        ..Beside::default()
    };
    match open(host, config, pools, board, bus, &mut beside).await {
        Ok(server) => Ok((server, beside)),
        Err(failure) => {
            beside.end().await;
            Err(failure)
        }
    }
}

/// Looks whether the port is free before a data directory is made for a bus that cannot run. In one
/// that is there the lock is the better reason: it knows that the other program is a bus.
fn check_port(host: &ServerConfig) -> Result<(), Failure> {
    if host.data_dir.exists() {
        return Ok(());
    }
    match std::net::TcpListener::bind(host.listen) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let address = host.listen;
            Err(ServerError::AddressInUse { address }.into())
        }
        // Everything else is told when it is opened to stay.
        _ => Ok(()),
    }
}

/// Starts the workers and the agents, then whoever may call them.
async fn open(
    mut host: ServerConfig,
    config: &Config,
    pools: Option<agentbus_stdio::Config>,
    board: Board,
    bus: Bus,
    beside: &mut Beside,
) -> Result<RunningServer, Failure> {
    if let Some(pools) = pools {
        let pools = PoolTargets::start(&bus, pools).await;
        let pools = pools.map_err(|error| misconfigured("pools: ", error))?;
        beside.pools = Some(pools.clone());
        host.figures = Some(Figures::new(move || pools.record()));
    }
    if !config.agents.is_empty() {
        let (agents, log) = (config.agents.clone(), beside.log.clone());
        let agents = AgentTargets::start(&bus, agents, Arc::new(board), log).await;
        beside.agents = Some(agents.map_err(|error| misconfigured("", error))?);
    }
    host.editors = host.sessions.clone().map(|log| {
        let editors = Editors::new(bus.clone(), beside.agents.clone(), log);
        beside.editors = Some(editors.clone());
        editors
    });
    let server = Server::start(host, bus).await?;
    if let Some(agents) = &beside.agents {
        offer_tools(agents, &server);
    }
    Ok(server)
}

/// An error that a caller could have avoided: here, whoever wrote the configuration.
fn misconfigured(key: &str, error: agentbus::Error) -> Failure {
    let mut failure = Failure::from(error);
    if failure.exit == Exit::Usage {
        failure.exit = Exit::Configuration;
        failure.message = format!("{key}{}", failure.message);
    }
    failure
}

/// Tells the agents how to start the MCP server that speaks to this bus.
fn offer_tools(agents: &AgentTargets, server: &RunningServer) {
    let command = match std::env::current_exe() {
        Ok(command) => command,
        Err(error) => {
            tracing::warn!(%error, "agents get no tools of the bus: its own program is not found");
            return;
        }
    };
    agents.offer(|agent| BusServer {
        command: command.clone(),
        args: vec!["--url".to_owned(), server.url(), "mcp".to_owned()],
        // One of its own: what an agent asks for it must not be able to grant.
        env: [("AGENTBUS_TOKEN".to_owned(), server.agent_token(agent))].into(),
    });
}

pub(super) fn server_config(config: &Config) -> Result<ServerConfig, Failure> {
    let strangers = !config.allow_hosts.is_empty() || !config.allow_origins.is_empty();
    if config.auth == Auth::Off && strangers {
        // A foreign name can be pointed at this machine (DNS rebinding), and then nothing but the
        // token keeps the pages under it out.
        return Err(Failure::new(
            Exit::Configuration,
            "without a token no other host or origin may be allowed; drop --auth off",
        ));
    }
    let data_dir = config
        .data_dir
        .clone()
        .or_else(credentials::data_dir)
        .ok_or_else(|| {
            Failure::new(
                Exit::Configuration,
                "there is no home directory; name one with --data-dir",
            )
        })?;
    let mut server = ServerConfig::new(data_dir);
    server.data_dir_is_named = config.data_dir.is_some();
    server.listen = config.listen;
    server.auth = match config.auth {
        Auth::Token => AuthMode::Token,
        Auth::Off => AuthMode::Off,
    };
    server.allowed_hosts.clone_from(&config.allow_hosts);
    server.allowed_origins.clone_from(&config.allow_origins);
    server.invoke_timeout = Duration::from_secs(config.invoke_timeout_s);
    server.stream_idle_timeout = Duration::from_secs(config.stream_idle_timeout_s);
    server.drain = Duration::from_secs(config.drain_s);
    server.chat = config.chat();
    server.mcp.profile = config.mcp_profile.into();
    server.mcp.language.clone_from(&config.mcp_language);
    server.chat_database.clone_from(&config.chat_database);
    server.chat_store.clone_from(&config.chat_store);
    let driven = config.agents.iter().map(|agent| agent.name.clone());
    server.live_agents = config
        .chat_live_agents
        .iter()
        .cloned()
        .chain(driven)
        .collect();
    // Only from the environment: a secret has no place in a file that is shown to others.
    server.admin_token = std::env::var("AGENTCHATBUS_ADMIN_TOKEN").ok();
    Ok(server)
}

/// Says where the bus is and what to do next. The first line is the address, for programs too.
fn announce(server: &RunningServer, output: &Output) -> Result<(), Failure> {
    let url = server.url();
    let token_file = server.data_dir().token_path();
    if output.is_json() {
        return output.line(&json!({ "listening": url, "token_file": token_file }).to_string());
    }
    output.line(&format!("AgentBus listens at {url}"))?;
    output.line(&format!(
        "  page     {}  (opens once, within 10 minutes)",
        server.console_link()
    ))?;
    output.line(&format!("  token    {}", token_file.display()))?;
    let agentbus = invocation(server);
    output.line(&format!("  try      {agentbus} handle wordcount -- wc -w"))?;
    output.line(&format!(
        "           {agentbus} invoke wordcount '\"one two three\"'"
    ))
}

/// How the command reaches this bus from another terminal.
fn invocation(server: &RunningServer) -> String {
    let mut command = server.client_environment() + "agentbus";
    let address = reached_at(server.local_addr());
    if address != Config::default().listen {
        command.push_str(&format!(" --url http://{address}"));
    }
    command
}

/// Where a bus is reached from this machine. It may listen at all addresses, which nobody has.
pub(super) fn reached_at(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Ends at the first SIGTERM or SIGINT.
pub(crate) fn asked_to_stop() -> impl Future<Output = ()> {
    let signal = stop_signal();
    async move {
        signal.await;
    }
}

/// Ends at the first SIGTERM or SIGINT, with the exit code of who was ended by it before the work
/// was done.
pub(crate) fn stop_signal() -> impl Future<Output = Exit> {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            // Without signals the program can still be ended the hard way.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => Exit::Terminated,
            _ = interrupt.recv() => Exit::Interrupted,
        }
    }
}
