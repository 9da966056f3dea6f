//! `agentbus mcp`: MCP on standard input and output.
//!
//! A running bus is joined over HTTP, with every message passed on as it is, so the client and the
//! bus speak whichever revision they agree on. Without one the bus runs in this process, on the
//! data directory, and other programs can join it.

mod bridge;
mod wire;

use std::time::Duration;

use agentbus_mcp::{Principal, Visitor};
use agentbus_server::RunningServer;

use crate::args::McpArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::telemetry::Telemetry;

use super::Api;
use super::serve::{Beside, asked_to_stop, start, start_logging};
use bridge::Bridge;

/// How often a bus that another process is just starting is looked for, and how long between.
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) async fn mcp(
    asked: McpArgs,
    config: impl Fn() -> Result<Config, Failure>,
    api: &Api,
    telemetry: &Telemetry,
    output: &Output,
) -> Result<(), Failure> {
    let default = format!("http://127.0.0.1:{}", agentbus_server::DEFAULT_PORT);
    if !asked.embedded && api.is_there().await {
        return attached(&asked, api).await;
    }
    if !asked.embedded && api.url() != default {
        let text = format!(
            "no bus answers at {}; start one with `agentbus serve`, or name another with --url",
            api.url()
        );
        return Err(Failure::new(Exit::Unreachable, text));
    }
    let config = asked.serve.clone().merge(None, config()?);
    start_logging(&config.log, output)?;
    match start(&config, telemetry).await {
        Ok(running) => embedded(&asked, &config, running).await,
        Err(mut failure) if asked.embedded && failure.exit == Exit::Listen => {
            failure.message.push_str(
                "; --embedded runs a bus of its own: leave it out to join the one that runs, or name another directory \
                 and another port with --data-dir DIR --listen 127.0.0.1:0",
            );
            Err(failure)
        }
        // Two editors that start at once: one of them runs the bus, the other joins it.
        Err(failure) if !asked.embedded && failure.exit == Exit::Listen => {
            for _ in 0..LOOKS {
                if api.is_there().await {
                    return attached(&asked, api).await;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

async fn attached(asked: &McpArgs, api: &Api) -> Result<(), Failure> {
    let bridge = Bridge::new(api, asked)?;
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
