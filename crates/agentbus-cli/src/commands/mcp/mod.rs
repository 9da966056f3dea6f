//! `agentbus mcp`: MCP on standard input and output.
//!
//! A running bus is joined over HTTP, with every message passed on as it is, so the client and the
//! bus speak whichever revision they agree on. Without one the bus runs in this process, on the
//! data directory, and other programs can join it.

mod bridge;
mod lines;
mod wire;

use agentbus_mcp::{Principal, Visitor};
use agentbus_server::RunningServer;

use crate::args::McpArgs;
use crate::config::{Config, Guarded};
use crate::failure::Failure;
use crate::output::Output;
use crate::telemetry::Telemetry;

use super::Api;
use super::join::{Joined, join};
use super::serve::{Beside, asked_to_stop};
use bridge::Bridge;

pub(crate) async fn mcp(
    asked: McpArgs,
    config: Guarded<'_>,
    api: &Api,
    telemetry: &Telemetry,
    output: &Output,
) -> Result<(), Failure> {
    let joined = join(asked.embedded, &asked.serve, config, api, telemetry, output);
    match joined.await? {
        Joined::Running(tenant) => attached(&asked, tenant.as_deref(), api).await,
        Joined::Own(config, running, _log) => embedded(&asked, &config, *running).await,
    }
}

async fn attached(asked: &McpArgs, tenant: Option<&str>, api: &Api) -> Result<(), Failure> {
    let bridge = Bridge::new(api, asked)?.within(tenant)?;
    tokio::select! {
        ended = bridge.run(tokio::io::stdin(), tokio::io::stdout()) => ended,
        () = asked_to_stop() => Ok(()),
    }
}

/// Serves the client until it hangs up; the bus ends with it.
async fn embedded(
    asked: &McpArgs,
    config: &Config,
    (server, beside): (RunningServer, Beside),
) -> Result<(), Failure> {
    let profile = asked.profile.unwrap_or(config.mcp_profile);
    let visitor = Visitor {
        language: asked.lang.clone(),
        ..Visitor::new(Principal::new("stdio"), profile.into())
    };
    let gateway = server.mcp().clone();
    let lines = (tokio::io::stdin(), tokio::io::stdout());
    let served = tokio::select! {
        served = gateway.serve_lines(visitor, lines) => served,
        () = asked_to_stop() => Ok(()),
    };
    server.shutdown().await;
    beside.end().await;
    served.map_err(|fault| Failure::unexpected(fault.to_string()))
}
