//! The configuration: one JSON object that names pools, limits and the transport.
//!
//! Keys nobody knows are ignored, as they always were, so comments such as `_comment` may stand
//! anywhere. What looks like a misspelt key is reported as a warning: a limit that silently does
//! not hold is worse than none.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::framing::Framing;
use crate::limits::{CONFIG_BYTES, LIMIT_KEYS, LIMIT_NAMES, Limits, POOLS, SPAN_SEC_MAX, WORKERS};

mod fields;
mod pool;
#[cfg(test)]
mod tests;

use fields::Fields;

/// The keys of the configuration itself.
const ROOT_KEYS: &[&str] = &["pools", "limits", "transport"];

/// The keys of one pool.
pub const POOL_KEYS: &[&str] = &[
    "id",
    "command",
    "args",
    "instances",
    "env",
    "cwd",
    "agents",
    "restart",
    "balance",
    "handshake",
    "hibernate_after_sec",
    "max_age_sec",
    "max_requests",
    "max_rss_mb",
    "method",
];

/// The keys of its `handshake`.
pub const HANDSHAKE_KEYS: &[&str] = &["method", "params", "then_notify", "timeout_sec"];

/// The keys of `transport`.
const TRANSPORT_KEYS: &[&str] = &["mode", "framing", "protocol"];

/// What the bus runs and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The pools in the order they are written; two entries may share one name.
    pub pools: Vec<PoolConfig>,
    /// The limits.
    pub limits: Limits,
    /// How clients are spoken to.
    pub transport: Transport,
    /// What is probably a mistake but does not stop the bus.
    pub warnings: Vec<String>,
}

/// A named set of equal workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Name that messages address.
    pub id: String,
    /// Program, looked up in PATH.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// How many of it run.
    pub instances: u32,
    /// Variables on top of the environment of the bus.
    pub env: BTreeMap<String, String>,
    /// Directory to start in, otherwise that of the bus.
    pub cwd: Option<PathBuf>,
    /// Values of `agentId` that lead here, besides the pool's own name.
    pub agents: Vec<String>,
    /// Which exits are followed by a restart.
    pub restart: Restart,
    /// How a worker is chosen for work without a session.
    pub balance: Balance,
    /// What a worker must answer before it gets work.
    pub handshake: Option<Handshake>,
    /// Silence after which a worker is stopped until it is needed again.
    pub hibernate_after: Option<Duration>,
    /// When a worker is replaced by a fresh one.
    pub recycle: Recycle,
    /// Method that a caller on a bus means who sends only params.
    pub method: Option<String>,
}

/// Which exits of a worker are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Every exit, code 0 included.
    #[default]
    Always,
    /// Exits other than code 0.
    OnFailure,
    /// None.
    Never,
}

/// How a worker is chosen for work without a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest unanswered requests, in turn among equals.
    LeastLoaded,
}

/// What a worker must answer before it gets work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Method of the request.
    pub method: String,
    /// Its params as JSON.
    pub params: Option<String>,
    /// Method of a notification sent after a good answer.
    pub then_notify: Option<String>,
    /// Time for the answer.
    pub timeout: Duration,
}

/// When a worker is replaced by a fresh one. What is absent never triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recycle {
    /// Age of the process.
    pub max_age: Option<Duration>,
    /// Requests it was given.
    pub max_requests: Option<u64>,
    /// Resident memory in bytes.
    pub max_rss_bytes: Option<u64>,
}

/// How clients are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transport {
    /// Where clients are, if the configuration says so; a command line flag wins.
    pub mode: Option<Mode>,
    /// How their messages are told apart.
    pub framing: Framing,
}

/// Where clients are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At our own standard input and output.
    Stdio,
    /// At a Unix socket.
    Unix,
    /// At a TCP port.
    Tcp,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not JSON.
    #[error("config: not a JSON object: {0}")]
    NotJson(String),
    /// It is larger than any configuration may be.
    #[error("config: larger than {CONFIG_BYTES} bytes: leave out what is not configuration")]
    TooLarge,
    /// A value has the wrong type or lies outside of what is allowed.
    #[error("config: {place}: {problem}")]
    Invalid {
        /// Where it stands, for example `pools[1] \"reviewer\": instances`.
        place: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads a configuration. Text after its closing brace is ignored.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the place and what would be right there.
    ///
    /// ```
    /// let config = agentbus_stdio::Config::parse(
    ///     br#"{"pools":[{"id":"p","command":"cat","instances":2}]}"#,
    /// )?;
    /// assert_eq!(config.pools[0].instances, 2);
    /// # Ok::<(), agentbus_stdio::config::ConfigError>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > CONFIG_BYTES {
            return Err(ConfigError::TooLarge);
        }
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        let root = match values.next() {
            Some(Ok(Value::Object(root))) => root,
            Some(Ok(_)) => return Err(ConfigError::NotJson("begin it with {".to_owned())),
            Some(Err(error)) => return Err(ConfigError::NotJson(error.to_string())),
            None => return Err(ConfigError::NotJson("it is empty".to_owned())),
        };
        let mut warnings = Vec::new();
        let fields = Fields::new("", &root, ROOT_KEYS);
        let config = Self {
            pools: pools(&fields, &mut warnings)?,
            limits: limits(&fields, &mut warnings)?,
            transport: transport(&fields)?,
            warnings: Vec::new(),
        };
        fields.warn_of_unknown(&mut warnings);
        Ok(Self { warnings, ..config })
    }
}

fn invalid(place: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        place: place.into(),
        problem: problem.into(),
    }
}

fn pools(fields: &Fields<'_>, warnings: &mut Vec<String>) -> Result<Vec<PoolConfig>, ConfigError> {
    let need = "give an array of at least one pool, each with id, command and instances";
    let Some(value) = fields.take("pools") else {
        return Err(invalid("pools", need));
    };
    let entries = match value.as_array() {
        Some(entries) if !entries.is_empty() => entries,
        _ => return Err(invalid("pools", need)),
    };
    if entries.len() > POOLS {
        return Err(invalid("pools", format!("there may be at most {POOLS}")));
    }
    let pools: Vec<PoolConfig> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| pool::read(index, entry, warnings))
        .collect::<Result<_, _>>()?;
    let workers: u64 = pools.iter().map(|pool| u64::from(pool.instances)).sum();
    if workers > WORKERS {
        let problem = format!("together they have {workers} instances; at most {WORKERS} may run");
        return Err(invalid("pools", problem));
    }
    Ok(pools)
}

/// Checks what `limits` would say, for a configuration that has no pools yet.
///
/// # Errors
///
/// A [`ConfigError`] that names the place and what would be right there.
pub fn check_limits(table: &Value) -> Result<(), ConfigError> {
    let root = Object::from_iter([("limits".to_owned(), table.clone())]);
    limits(&Fields::new("", &root, ROOT_KEYS), &mut Vec::new()).map(drop)
}

fn limits(fields: &Fields<'_>, warnings: &mut Vec<String>) -> Result<Limits, ConfigError> {
    let mut limits = Limits::default();
    let Some(object) = fields.object("limits")? else {
        return Ok(limits);
    };
    let keys = Fields::new("limits", object, LIMIT_NAMES);
    for key in LIMIT_KEYS {
        if let Some(value) = keys.whole_number(key.name)?
            && let Some(slot) = limits.slot(key.name)
        {
            *slot = value.min(longest(key.name));
        }
    }
    keys.warn_of_unknown(warnings);
    Ok(limits)
}

/// The most that a limit may be: times end where clocks could not count any further.
fn longest(name: &str) -> u64 {
    match name.rsplit_once('_') {
        Some((_, "sec")) => SPAN_SEC_MAX,
        Some((_, "ms")) => SPAN_SEC_MAX * 1000,
        _ => u64::MAX,
    }
}

fn transport(fields: &Fields<'_>) -> Result<Transport, ConfigError> {
    let Some(object) = fields.object("transport")? else {
        return Ok(Transport::default());
    };
    let keys = Fields::new("transport", object, TRANSPORT_KEYS);
    let mode = match keys.text("mode")? {
        None => None,
        Some("stdio") => Some(Mode::Stdio),
        Some("unix") => Some(Mode::Unix),
        Some("tcp") => Some(Mode::Tcp),
        Some(other) => return Err(unsupported("mode", other, "stdio, unix or tcp")),
    };
    let framing = match keys.text("framing")? {
        None | Some("ndjson") => Framing::Ndjson,
        Some("length") => Framing::Length,
        Some(other) => return Err(unsupported("framing", other, "ndjson or length")),
    };
    match keys.text("protocol")? {
        None | Some("json") => Ok(Transport { mode, framing }),
        Some(other) => Err(unsupported("protocol", other, "json")),
    }
}

fn unsupported(key: &str, value: &str, instead: &str) -> ConfigError {
    invalid(
        format!("transport.{key}"),
        format!("{value:?} is not supported: use {instead}"),
    )
}

/// Returns the tables of limits as Markdown, for the documentation.
#[must_use]
pub fn reference() -> String {
    use std::fmt::Write as _;
    let mut text = String::from("| limit | default | meaning |\n|---|---|---|\n");
    for key in LIMIT_KEYS {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} |",
            key.name, key.default, key.meaning
        );
    }
    text
}

/// An object of the configuration, for the readers of its parts.
type Object = Map<String, Value>;
