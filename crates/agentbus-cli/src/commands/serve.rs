//! `agentbus serve`.

use std::future::Future;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use agentbus::Bus;
use agentbus_acp::{AgentTargets, BusServer, SessionLog};
use agentbus_server::{AuthMode, Board, Figures, RunningServer, Server, ServerConfig};
use agentbus_stdio::PoolTargets;
use agentbus_transport_ws::credentials;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::Auth;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::telemetry::Telemetry;

pub(crate) async fn serve(
    config: Config,
    telemetry: &Telemetry,
    output: &Output,
) -> Result<(), Failure> {
    start_logging(&config.log, output)?;
    // Listened for before the port is open, so that no early signal is missed.
    let stop = asked_to_stop();
    let (server, beside) = start(&config, telemetry).await?;
    announce(&server, output)?;
    stop.await;
    output.note("stopping: finishing what was accepted");
    server.shutdown().await;
    beside.end().await;
    Ok(())
}

/// What runs beside the host, and ends after those who could call it.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pools: Option<PoolTargets>,
    agents: Option<AgentTargets>,
    /// Closed when the agents have said their last.
    log: Option<SessionLog>,
}

impl Beside {
    /// Ends every process.
    pub(super) async fn end(self) {
        if let Some(agents) = self.agents {
            agents.shutdown().await;
        }
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
    let (mut host, pools) = (server_config(config)?, config.pools()?);
    let bus = Bus::builder("agentbus")
        .transport(config.transport.as_str())
        .schemas(config.schemas()?)
        .metered();
    let bus = telemetry.observe(bus).connect().await?;
    let board = Board::new(bus.clone());
    let log = host.data_dir.join("sessions.db");
    host.sessions = match config.agents.is_empty() && !log.exists() {
        true => None,
        false => Some(SessionLog::open(log)?),
    };
    host.decisions = Some(board.clone());
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
        let pools = PoolTargets::start(&bus, pools).await?;
        beside.pools = Some(pools.clone());
        host.figures = Some(Figures::new(move || pools.record()));
    }
    if !config.agents.is_empty() {
        let (agents, log) = (config.agents.clone(), beside.log.clone());
        let agents = AgentTargets::start(&bus, agents, Arc::new(board), log).await?;
        beside.agents = Some(agents);
    }
    let server = Server::start(host, bus).await?;
    if let Some(agents) = &beside.agents {
        offer_tools(agents, &server);
    }
    Ok(server)
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

fn server_config(config: &Config) -> Result<ServerConfig, Failure> {
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

pub(crate) fn start_logging(filter: &str, output: &Output) -> Result<(), Failure> {
    // The libraries tell of every session and of clients that leave (MCP), of every refusal (ACP),
    // and of every message that nobody wanted (RabbitMQ). Who wants that names them.
    let quieter = format!("rmcp=off,agent_client_protocol=off,lapin=error,{filter}");
    let filter = EnvFilter::try_new(quieter).map_err(|error| {
        Failure::new(
            Exit::Configuration,
            format!("`{filter}` is no log filter: {error}"),
        )
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if output.is_json() {
        log.json().init();
    } else {
        log.with_ansi(io::stderr().is_terminal()).init();
    }
    Ok(())
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
    output.line("  try      agentbus handle wordcount -- wc -w")?;
    output.line("           agentbus invoke wordcount '\"one two three\"'")
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
