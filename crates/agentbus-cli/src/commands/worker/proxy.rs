//! `agentbus worker mcp-proxy`: an ACP agent behind a bus as a tool of MCP.

use agentbus_acp::worker::proxy::{self, Address, ProxyOptions};

use super::stopped_by_signal;
use crate::args::ProxyWorker;
use crate::failure::Failure;
use crate::log::Log;
use crate::output::Output;

/// Serves until the input ends or a signal asks to stop; both are a success.
pub(super) async fn serve(args: ProxyWorker, output: &Output) -> Result<(), Failure> {
    let _log = Log::start(&args.log, output)?;
    let options = ProxyOptions {
        address: match args.unix {
            Some(path) => Address::Unix(path),
            None => Address::Tcp(format!("{}:{}", args.host, args.port)),
        },
        agent: args.agent.filter(|agent| !agent.is_empty()),
        allow: args.allow_tools,
    };
    let stop = stopped_by_signal();
    let served = proxy::serve(options, tokio::io::stdin(), tokio::io::stdout(), stop).await;
    served.map_err(|error| Failure::unexpected(error.to_string()))
}
