//! `agentbus serve`.

use std::future::Future;
use std::io::{self, IsTerminal};
use std::time::Duration;

use agentbus::Bus;
use agentbus_server::{AuthMode, Figures, RunningServer, Server, ServerConfig};
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
    let (server, pools) = start(&config, telemetry).await?;
    announce(&server, output)?;
    stop.await;
    output.note("stopping: finishing what was accepted");
    server.shutdown().await;
    end(pools).await;
    Ok(())
}

/// Starts the bus and everything around it.
pub(super) async fn start(
    config: &Config,
    telemetry: &Telemetry,
) -> Result<(RunningServer, Option<PoolTargets>), Failure> {
    let (host, pools) = (server_config(config)?, config.pools()?);
    let bus = Bus::builder("agentbus")
        .transport(config.transport.as_str())
        .schemas(config.schemas()?)
        .metered();
    let bus = telemetry.observe(bus).connect().await?;
    open(host, pools, bus).await
}

/// Starts the workers, then whoever may call them.
async fn open(
    mut host: ServerConfig,
    pools: Option<agentbus_stdio::Config>,
    bus: Bus,
) -> Result<(RunningServer, Option<PoolTargets>), Failure> {
    let pools = match pools {
        Some(pools) => Some(PoolTargets::start(&bus, pools).await?),
        None => None,
    };
    host.figures = pools
        .clone()
        .map(|pools| Figures::new(move || pools.record()));
    match Server::start(host, bus).await {
        Ok(server) => Ok((server, pools)),
        Err(error) => {
            end(pools).await;
            Err(error.into())
        }
    }
}

/// Ends the workers, after those who could call them.
pub(super) async fn end(pools: Option<PoolTargets>) {
    if let Some(pools) = pools {
        pools.shutdown().await;
    }
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
    server.live_agents.clone_from(&config.chat_live_agents);
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
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
