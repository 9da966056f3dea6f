//! `agentbus stdio`, and what this program is when it is called `stdio_bus`.

use std::io::Read;
use std::path::{Path, PathBuf};

use agentbus_stdio::config::{ConfigError, Mode};
use agentbus_stdio::{Config, DaemonError, Endpoint, limits};

use crate::args::StdioArgs;
use crate::failure::{Exit, Failure};
use crate::log::Log;
use crate::memory;
use crate::output::Output;

/// Runs the process bus until it is told to stop, or its one client has said all.
pub(crate) async fn stdio(
    args: StdioArgs,
    config: Option<&Path>,
    output: &Output,
) -> Result<(), Failure> {
    let debug = std::env::var_os("DEBUG_STDIO").is_some();
    let default = if debug { "debug" } else { "info" };
    let _log = Log::start(args.log.as_deref().unwrap_or(default), output)?;
    let flag = flag(&args)?;
    let config = Config::parse(&read(config, args.config_fd)?)?;
    let endpoint = endpoint(flag, &config)?;
    memory::tend();
    agentbus_stdio::run(config, endpoint).await?;
    Ok(())
}

/// Reads where clients are, if a flag says so.
fn flag(args: &StdioArgs) -> Result<Option<Endpoint>, Failure> {
    match (&args.unix, &args.tcp, args.stdio) {
        (Some(path), ..) => Ok(Some(Endpoint::Unix(path.clone()))),
        (None, Some(text), _) => address(text).map(Some),
        (None, None, true) => Ok(Some(Endpoint::Stdio)),
        (None, None, false) => Ok(None),
    }
}

/// Reads `HOST:PORT`; an empty host and `*` mean all addresses.
fn address(text: &str) -> Result<Endpoint, Failure> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok().filter(|port| *port > 0)?;
        Some((host, port))
    });
    let Some((host, port)) = parts else {
        let message = format!(
            "`{text}` is no HOST:PORT, such as 127.0.0.1:9000, with a port from 1 to 65535"
        );
        return Err(Failure::usage(message));
    };
    let host = if host == "*" { "" } else { host };
    Ok(Endpoint::Tcp {
        host: host.to_owned(),
        port,
    })
}

/// The flag wins over the configuration, which has no place for an address.
fn endpoint(flag: Option<Endpoint>, config: &Config) -> Result<Endpoint, Failure> {
    let missing = |mode: &str, flag: &str| {
        let message = format!("config: transport.mode is {mode}: say where with {flag}");
        Err(Failure::new(Exit::Configuration, message))
    };
    match (flag, config.transport.mode) {
        (Some(endpoint), _) => Ok(endpoint),
        (None, None | Some(Mode::Stdio)) => Ok(Endpoint::Stdio),
        (None, Some(Mode::Unix)) => missing("unix", "--unix PATH"),
        (None, Some(Mode::Tcp)) => missing("tcp", "--tcp HOST:PORT"),
    }
}

/// Reads the configuration from a file or from a descriptor that was inherited.
fn read(file: Option<&Path>, descriptor: Option<u16>) -> Result<Vec<u8>, Failure> {
    let path = match (file, descriptor) {
        (Some(path), None) => path.to_owned(),
        (None, Some(number)) => PathBuf::from(format!("/dev/fd/{number}")),
        (Some(_), Some(_)) => {
            let message = "give either --config or --config-fd, not both";
            return Err(Failure::usage(message));
        }
        (None, None) => {
            let message = "name the pools with --config FILE; docs/stdio.md shows one";
            return Err(Failure::usage(message));
        }
    };
    let failed = |error| {
        let message = format!("config: cannot read {}: {error}", path.display());
        Failure::new(Exit::Configuration, message)
    };
    let mut bytes = Vec::new();
    // One byte more than allowed, so that too much is noticed without reading all of it.
    let room = limits::CONFIG_BYTES as u64 + 1;
    let file = std::fs::File::open(&path).map_err(failed)?;
    file.take(room).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Configuration, error.to_string())
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        Self::new(Exit::Listen, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_names_and_both_families() {
        for good in ["127.0.0.1:1", "[::1]:9", ":9000", "*:9000", "host:65535"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["9000", "host:", "host:0", "host:99999", "host:x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
