//! The configuration: one file, overridden by the environment, then by flags.

mod keys;
mod pools;
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
    pub(crate) transport: String,
    pub(crate) auth: Auth,
    pub(crate) allow_hosts: Vec<String>,
    pub(crate) allow_origins: Vec<String>,
    pub(crate) invoke_timeout_s: u64,
    pub(crate) stream_idle_timeout_s: u64,
    pub(crate) drain_s: u64,
    pub(crate) log: String,
    pub(crate) pools: Vec<toml::Table>,
    pub(crate) pool_limits: toml::Table,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], agentbus_server::DEFAULT_PORT)),
            data_dir: None,
            transport: "memory://".to_owned(),
            auth: Auth::Token,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            invoke_timeout_s: agentbus::limits::INVOKE_TIMEOUT.as_secs(),
            stream_idle_timeout_s: agentbus::limits::STREAM_IDLE_TIMEOUT.as_secs(),
            drain_s: agentbus::limits::CLOSE_DRAIN.as_secs(),
            log: "info".to_owned(),
            pools: Vec::new(),
            pool_limits: toml::Table::new(),
        }
    }
}

/// Reads the file that was named, or the default one if it is there.
pub(crate) fn load(named: Option<&Path>) -> Result<Config, Failure> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) if named.is_some() => parse(path, &text),
        Ok(text) => trusted(parse(path, &text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            Ok(Config::default())
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(Failure::new(Exit::Configuration, message))
        }
    }
}

/// Refuses what a directory that somebody else filled, such as a cloned repository, must not
/// decide: who may speak, from where, and where the secrets are.
fn trusted(config: Config) -> Result<Config, Failure> {
    let default = Config::default();
    let opened = [
        ("auth", config.auth != default.auth),
        ("allow_hosts", config.allow_hosts != default.allow_hosts),
        (
            "allow_origins",
            config.allow_origins != default.allow_origins,
        ),
        ("data_dir", config.data_dir != default.data_dir),
        ("transport", config.transport != default.transport),
        ("listen", !config.listen.ip().is_loopback()),
        ("pools", config.pools != default.pools),
    ];
    match opened.iter().find(|(_, set)| *set) {
        None => Ok(config),
        Some((key, _)) => Err(Failure::new(
            Exit::Configuration,
            format!(
                "{DEFAULT_FILE} sets `{key}`, which decides who may use the bus or what runs here; if you trust the \
                 file, name it: --config {DEFAULT_FILE}"
            ),
        )),
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
