//! The configuration: one file, overridden by the environment, then by flags.

mod keys;
mod problem;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::args::Auth;
use crate::failure::{Exit, Failure};

pub(crate) use keys::{KEYS, reference};

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "agentbus.toml";

/// Everything that `agentbus.toml` can say. Each field is a row of [`KEYS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) auth: Auth,
    pub(crate) allow_hosts: Vec<String>,
    pub(crate) allow_origins: Vec<String>,
    pub(crate) invoke_timeout_s: u64,
    pub(crate) stream_idle_timeout_s: u64,
    pub(crate) drain_s: u64,
    pub(crate) log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], agentbus_server::DEFAULT_PORT)),
            data_dir: None,
            auth: Auth::Token,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            invoke_timeout_s: agentbus::limits::INVOKE_TIMEOUT.as_secs(),
            stream_idle_timeout_s: agentbus::limits::STREAM_IDLE_TIMEOUT.as_secs(),
            drain_s: agentbus::limits::CLOSE_DRAIN.as_secs(),
            log: "info".to_owned(),
        }
    }
}

/// Reads the file that was named, or the default one if it is there.
pub(crate) fn load(named: Option<&Path>) -> Result<Config, Failure> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            Ok(Config::default())
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(Failure::new(Exit::Configuration, message))
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
    toml::from_str(text).map_err(|error| {
        let message = problem::describe(path, text, &error);
        Failure::new(Exit::Configuration, message)
    })
}

#[cfg(test)]
mod tests;
