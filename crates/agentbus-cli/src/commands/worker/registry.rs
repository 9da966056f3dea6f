//! `agentbus worker registry`: the agents of an ACP registry on standard input and output.

use std::time::Duration;

use agentbus_acp::worker::registry::{self, RegistryError, RegistryOptions};

use super::{state_directory, stopped_by_signal};
use crate::args::RegistryWorker;
use crate::commands::serve::start_logging;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Serves until the input ends or a signal asks to stop; both are a success.
pub(super) async fn serve(args: RegistryWorker, output: &Output) -> Result<(), Failure> {
    start_logging(&args.log, output)?;
    let options = RegistryOptions {
        registry: args.registry,
        custom_agents: args.custom_agents,
        api_keys: args.api_keys,
        pins: args.pins,
        offline: args.offline,
        default_agent: args.agent,
        data_directory: match args.data_dir {
            Some(directory) => directory,
            None => state_directory("registry")?,
        },
        grace: Duration::from_secs(args.shutdown_timeout),
    };
    if options.registry.is_none() && options.custom_agents.is_none() {
        let message =
            "there are no agents; name an index with --registry, or a file with --custom-agents";
        return Err(Failure::new(Exit::Configuration, message));
    }
    if args.auth_status {
        for line in registry::auth_status(&options)
            .await
            .map_err(|error| failure(&error))?
        {
            output.line(&line)?;
        }
        return Ok(());
    }
    let stop = stopped_by_signal();
    let served = registry::serve(options, tokio::io::stdin(), tokio::io::stdout(), stop).await;
    served.map_err(|error| failure(&error))
}

fn failure(error: &RegistryError) -> Failure {
    let exit = match error {
        RegistryError::Connection(_) => Exit::Unexpected,
        _ => Exit::Configuration,
    };
    Failure::new(exit, error.to_string())
}
