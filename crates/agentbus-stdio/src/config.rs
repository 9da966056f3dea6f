//! The JSON configuration of the process bus.
//!
//! It is the one that stdio Bus reads: unknown keys are no error, because comments are written as
//! keys, but each is reported, because a misspelt limit would silently be the default.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::limits;

/// A configuration that was read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The pools, at least one, with different names.
    pub pools: Vec<Pool>,
    /// What is allowed.
    pub limits: Limits,
    /// How clients' messages are framed.
    pub framing: Framing,
}

/// A group of equal workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub id: String,
    /// The program, searched for in `PATH`; never a shell.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// How many workers.
    pub instances: usize,
    /// Variables added to the environment of the bus.
    pub env: Vec<(String, String)>,
    /// The working directory, if not that of the bus.
    pub cwd: Option<String>,
    /// How a worker is chosen for a message without a session.
    pub balance: Balance,
}

/// How a worker is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest unanswered requests.
    LeastLoaded,
}

/// How messages follow one another on a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// Four bytes of length, big-endian, then the JSON object.
    Length,
}

/// What is allowed. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, its line end included.
    pub max_input_buffer: usize,
    /// What may wait for a client before it is no longer read.
    pub max_output_queue: usize,
    /// Restarts of one worker within the window; 0 never restarts.
    pub max_restarts: usize,
    /// The window in which restarts are counted.
    pub restart_window: Duration,
    /// Wait before the first restart; each further one within the window takes twice as long.
    pub restart_delay: Duration,
    /// Whether a worker that exits with code 0 is started again.
    pub restart_on_success: bool,
    /// How long running requests may take when the bus is told to end.
    pub drain_timeout: Duration,
    /// How long a client's queue may stay over its limit.
    pub backpressure_timeout: Duration,
    /// Most sessions.
    pub max_sessions: usize,
    /// How long an unused session is remembered when room is needed.
    pub session_idle: Duration,
    /// Most unanswered requests of one client.
    pub max_pending: usize,
    /// How long a request may take; `None` is for ever.
    pub request_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_input_buffer: 10_485_760,
            max_output_queue: 41_943_040,
            max_restarts: 5,
            restart_window: Duration::from_secs(60),
            restart_delay: Duration::from_secs(1),
            restart_on_success: true,
            drain_timeout: Duration::from_secs(30),
            backpressure_timeout: Duration::from_secs(60),
            max_sessions: 65_536,
            session_idle: Duration::from_secs(3600),
            max_pending: 4096,
            request_timeout: None,
        }
    }
}

/// Why a configuration cannot be used. The text begins with `config:`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config: {0}")]
pub struct ConfigError(String);

fn wrong<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

/// A configuration and the keys in it that mean nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Paths of keys that were ignored, such as `limits.max_restart`.
    pub ignored: Vec<String>,
}

impl Config {
    /// Reads a configuration. What follows the closing brace is ignored.
    ///
    /// # Errors
    /// Fails on malformed JSON, wrong types, missing fields, equal pool names, and sizes over
    /// [`limits::CONFIG_BYTES_MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Loaded, ConfigError> {
        if bytes.len() as u64 > limits::CONFIG_BYTES_MAX {
            return wrong(format!("longer than {} bytes", limits::CONFIG_BYTES_MAX));
        }
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        let root = match values.next() {
            Some(Ok(Value::Object(root))) => root,
            Some(Ok(_)) => return wrong("the configuration must be a JSON object"),
            Some(Err(error)) => return wrong(format!("not valid JSON: {error}")),
            None => return wrong("the file is empty; it needs at least {\"pools\": […]}"),
        };
        let mut reader = Reader::default();
        reader.note_unknown("", &root, &["pools", "limits", "transport"]);
        let config = Self {
            pools: reader.pools(root.get("pools"))?,
            limits: reader.limits(root.get("limits"))?,
            framing: reader.transport(root.get("transport"))?,
        };
        Ok(Loaded {
            config,
            ignored: reader.ignored,
        })
    }
}

#[derive(Default)]
struct Reader {
    ignored: Vec<String>,
}

impl Reader {
    fn note_unknown(&mut self, path: &str, map: &Map<String, Value>, known: &[&str]) {
        let unknown = map
            .keys()
            .filter(|key| !known.contains(&key.as_str()) && !key.starts_with('_'));
        self.ignored
            .extend(unknown.map(|key| format!("{path}{key}")));
    }

    fn pools(&mut self, value: Option<&Value>) -> Result<Vec<Pool>, ConfigError> {
        let Some(Value::Array(entries)) = value else {
            return wrong("\"pools\" must be an array with at least one pool");
        };
        if entries.is_empty() {
            return wrong("at least one pool is needed");
        }
        let mut pools: Vec<Pool> = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let pool = self.pool(index, entry)?;
            if pools.iter().any(|present| present.id == pool.id) {
                return wrong(format!("pools[{index}]: the id \"{}\" is taken", pool.id));
            }
            pools.push(pool);
        }
        Ok(pools)
    }

    fn pool(&mut self, index: usize, entry: &Value) -> Result<Pool, ConfigError> {
        let Value::Object(map) = entry else {
            return wrong(format!("pools[{index}] must be an object"));
        };
        let id = name(map, "id").ok_or_else(|| {
            ConfigError(format!("pools[{index}]: \"id\" must be a non-empty string"))
        })?;
        let place = format!("pool \"{id}\"");
        let known = [
            "id",
            "command",
            "args",
            "instances",
            "env",
            "cwd",
            "balance",
        ];
        self.note_unknown(&format!("pools[{index}]."), map, &known);
        let command = name(map, "command").ok_or_else(|| {
            ConfigError(format!("{place}: \"command\" must be a non-empty string"))
        })?;
        let instances = match map.get("instances").and_then(Value::as_u64) {
            Some(count @ 1..=65_535) => usize::try_from(count).unwrap_or(1),
            _ => {
                return wrong(format!(
                    "{place}: \"instances\" must be a number from 1 to 65535"
                ));
            }
        };
        let cwd = match map.get("cwd") {
            None => None,
            Some(Value::String(path)) => Some(path.clone()),
            Some(_) => return wrong(format!("{place}: \"cwd\" must be a string")),
        };
        Ok(Pool {
            args: args(&place, map.get("args"))?,
            env: env(&place, map.get("env"))?,
            balance: balance(&place, map.get("balance"))?,
            id,
            command,
            instances,
            cwd,
        })
    }

    fn limits(&mut self, value: Option<&Value>) -> Result<Limits, ConfigError> {
        let mut limits = Limits::default();
        let map = match value {
            None => return Ok(limits),
            Some(Value::Object(map)) => map,
            Some(_) => return wrong("\"limits\" must be an object"),
        };
        for (key, value) in map {
            if key == "restart_on_success" {
                let Value::Bool(restart) = value else {
                    return wrong("limits.restart_on_success must be true or false");
                };
                limits.restart_on_success = *restart;
                continue;
            }
            let number = value
                .as_u64()
                .and_then(|number| usize::try_from(number).ok());
            let known = set_limit(&mut limits, key, number);
            if !known {
                self.note_unknown("limits.", &single(key), &[]);
            } else if number.is_none() {
                return wrong(format!("limits.{key} must be a whole number from 0"));
            }
        }
        Ok(limits)
    }

    fn transport(&mut self, value: Option<&Value>) -> Result<Framing, ConfigError> {
        let map = match value {
            None => return Ok(Framing::Ndjson),
            Some(Value::Object(map)) => map,
            Some(_) => return wrong("\"transport\" must be an object"),
        };
        self.note_unknown(
            "transport.",
            map,
            &["framing", "mode", "protocol", "options"],
        );
        match map.get("framing").map(|framing| framing.as_str()) {
            None | Some(Some("ndjson")) => Ok(Framing::Ndjson),
            Some(Some("length")) => Ok(Framing::Length),
            Some(_) => wrong("transport.framing must be \"ndjson\" or \"length\""),
        }
    }
}

fn single(key: &str) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), Value::Null)])
}

/// Sets one numeric limit and says whether the key is known.
fn set_limit(limits: &mut Limits, key: &str, number: Option<usize>) -> bool {
    let number = number.unwrap_or_default();
    let seconds = Duration::from_secs(number as u64);
    match key {
        "max_input_buffer" => limits.max_input_buffer = number,
        "max_output_queue" => limits.max_output_queue = number,
        "max_restarts" => limits.max_restarts = number,
        "restart_window_sec" => limits.restart_window = seconds,
        "restart_delay_ms" => limits.restart_delay = Duration::from_millis(number as u64),
        "drain_timeout_sec" => limits.drain_timeout = seconds,
        "backpressure_timeout_sec" => limits.backpressure_timeout = seconds,
        "max_sessions" => limits.max_sessions = number,
        "session_idle_sec" => limits.session_idle = seconds,
        "max_pending" => limits.max_pending = number,
        "request_timeout_sec" => limits.request_timeout = (number > 0).then_some(seconds),
        _ => return false,
    }
    true
}

fn name(map: &Map<String, Value>, key: &str) -> Option<String> {
    let text = map.get(key)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn args(place: &str, value: Option<&Value>) -> Result<Vec<String>, ConfigError> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let texts = value.as_array().and_then(|entries| {
        let texts = entries.iter().map(|entry| Some(entry.as_str()?.to_owned()));
        texts.collect()
    });
    texts.map_or_else(
        || wrong(format!("{place}: \"args\" must be an array of strings")),
        Ok,
    )
}

fn env(place: &str, value: Option<&Value>) -> Result<Vec<(String, String)>, ConfigError> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let pairs = value.as_object().and_then(|map| {
        let pairs = map
            .iter()
            .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        pairs.collect()
    });
    pairs.map_or_else(
        || wrong(format!("{place}: \"env\" must be an object of strings")),
        Ok,
    )
}

fn balance(place: &str, value: Option<&Value>) -> Result<Balance, ConfigError> {
    match value.map(|value| value.as_str()) {
        None | Some(Some("round-robin")) => Ok(Balance::RoundRobin),
        Some(Some("least-loaded")) => Ok(Balance::LeastLoaded),
        Some(_) => wrong(format!(
            "{place}: \"balance\" must be \"round-robin\" or \"least-loaded\""
        )),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
