//! `agentbus worker registry`: the agents of an ACP registry on standard input and output, and
//! the logins that they need.

use std::io::{self, BufRead};
use std::time::Duration;

use agentbus_acp::worker::registry::{self, KeySource, RegistryError, RegistryOptions};

use super::{set, state_directory, stopped_by_signal};
use crate::args::RegistryWorker;
use crate::failure::{Exit, Failure};
use crate::log::Log;
use crate::output::Output;

/// Serves until the input ends or a signal asks to stop; both are a success.
pub(super) async fn serve(args: RegistryWorker, output: &Output) -> Result<(), Failure> {
    let _log = Log::start(&args.log, output)?;
    let options = options(&args)?;
    if let Some(name) = &args.login {
        return log_in(&options, name, args.method.as_deref(), output).await;
    }
    if let Some(name) = &args.logout {
        let name = Some(name.as_str()).filter(|name| !name.is_empty());
        // Who does not read what became of it is logged out all the same.
        let tell = |line: &str| drop(output.line(line));
        let done = registry::log_out(&options, name, &tell).await;
        return done.map_err(|error| failure(&error));
    }
    if args.auth_status {
        for account in registry::accounts(&options)
            .await
            .map_err(|error| failure(&error))?
        {
            output.line(&account.line)?;
        }
        return Ok(());
    }
    if args.setup {
        return set_up(&options, output).await;
    }
    if options.registry.is_none() && options.custom_agents.is_none() {
        let message =
            "there are no agents; name an index with --registry, or a file with --custom-agents";
        return Err(Failure::new(Exit::Configuration, message));
    }
    let stop = stopped_by_signal();
    let served = registry::serve(options, tokio::io::stdin(), tokio::io::stdout(), stop).await;
    served.map_err(|error| failure(&error))
}

fn options(args: &RegistryWorker) -> Result<RegistryOptions, Failure> {
    let data_directory = match &args.data_dir {
        Some(directory) => directory.clone(),
        None => state_directory("registry")?,
    };
    let token_key = match (&args.key_file, args.keychain) {
        (Some(file), _) => Some(KeySource::File(file.clone())),
        (None, true) => Some(KeySource::Keychain(data_directory.display().to_string())),
        // Of a variable, because arguments can be read by everybody on the machine.
        (None, false) => set("AGENTBUS_REGISTRY_PASSPHRASE").map(KeySource::Passphrase),
    };
    Ok(RegistryOptions {
        registry: args.registry.clone(),
        custom_agents: args.custom_agents.clone(),
        api_keys: args.api_keys.clone(),
        pins: args.pins.clone(),
        offline: args.offline,
        default_agent: args.agent.clone(),
        data_directory,
        grace: Duration::from_secs(args.shutdown_timeout),
        providers: args.providers.clone(),
        token_key,
        automatic_login: args.auto_login,
    })
}

async fn log_in(
    options: &RegistryOptions,
    name: &str,
    method: Option<&str>,
    output: &Output,
) -> Result<(), Failure> {
    // Who cannot be told where to go will not get there, and the login says so after its time.
    let tell = |line: &str| drop(output.line(line));
    let done = registry::log_in(options, name, method, &tell).await;
    done.map_err(|error| failure(&error))?;
    output.line(&format!("Logged in at {name}."))
}

/// Shows what there is and logs in to what a person chooses, until nothing is chosen.
async fn set_up(options: &RegistryOptions, output: &Output) -> Result<(), Failure> {
    loop {
        let accounts = registry::accounts(options)
            .await
            .map_err(|error| failure(&error))?;
        for (number, account) in (1..).zip(&accounts) {
            output.line(&format!("{number:>3}  {}", account.line))?;
        }
        output.line("Which number to log in to? An empty line ends.")?;
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        let line = line
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let line = line.map_err(|error| Failure::unexpected(error.to_string()))?;
        if line.trim().is_empty() {
            return Ok(());
        }
        let number = line.trim().parse::<usize>().ok();
        let chosen = number.and_then(|number| accounts.get(number.checked_sub(1)?));
        let Some(account) = chosen else {
            output.line("There is no such number.")?;
            continue;
        };
        if let Err(failed) = log_in(options, &account.name, None, output).await {
            output.line(&failed.message)?;
        }
    }
}

fn failure(error: &RegistryError) -> Failure {
    let exit = match error {
        RegistryError::Connection(_) => Exit::Unexpected,
        RegistryError::Auth(_) => Exit::Refused,
        _ => Exit::Configuration,
    };
    Failure::new(exit, error.to_string())
}
