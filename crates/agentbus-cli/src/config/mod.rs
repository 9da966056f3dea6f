//! The configuration: one file, overridden by the environment, then by flags.

mod chat;
mod keys;
mod names;
mod pools;
mod problem;
mod schemas;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use agentbus::protocol::subject::DEFAULT_PREFIX;
use agentbus::transport::remote::hidden;
use agentbus_acp::AgentConfig;
use agentbus_chat::store::PostgresStore;
use serde::{Deserialize, Serialize};

use crate::args::{Auth, McpProfile};
use crate::failure::{Exit, Failure};
use crate::output::Output;

pub(crate) use chat::not_kept;
pub(crate) use keys::{KEYS, reference};
pub(crate) use names::check_target;

/// The file that is read when none is named.
pub(crate) const DEFAULT_FILE: &str = "agentbus.toml";

/// Everything that `agentbus.toml` can say. Each field is a row of [`keys::KEYS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) transport: String,
    pub(crate) tenant: String,
    pub(crate) subject_prefix: String,
    pub(crate) auth: Auth,
    pub(crate) allow_hosts: Vec<String>,
    pub(crate) allow_origins: Vec<String>,
    pub(crate) invoke_timeout_s: u64,
    pub(crate) stream_idle_timeout_s: u64,
    pub(crate) drain_s: u64,
    pub(crate) log: String,
    #[serde(deserialize_with = "pools::entries")]
    pub(crate) pools: Vec<toml::Table>,
    pub(crate) schemas: Vec<schemas::Entry>,
    #[serde(deserialize_with = "pools::limits")]
    pub(crate) pool_limits: toml::Table,
    pub(crate) agents: Vec<AgentConfig>,
    pub(crate) mcp_profile: McpProfile,
    pub(crate) mcp_language: String,
    pub(crate) chat_database: Option<PathBuf>,
    pub(crate) chat_store: Option<String>,
    pub(crate) chat_live_agents: Vec<String>,
    pub(crate) chat_heartbeat_timeout_s: u64,
    pub(crate) chat_wait_timeout_s: u64,
    pub(crate) chat_wait_min_ms: u64,
    pub(crate) chat_wait_min_enforced: bool,
    pub(crate) chat_seq_tolerance: i64,
    pub(crate) chat_mismatch_messages_max: usize,
    pub(crate) chat_rate_limit: u32,
    pub(crate) chat_content_filter: bool,
    pub(crate) chat_thread_timeout_min: u64,
    pub(crate) chat_sweep_interval_s: u64,
    pub(crate) chat_allow_posts_in_closed: bool,
    pub(crate) chat_enable_handoff_target: bool,
    pub(crate) chat_enable_stop_reason: bool,
    pub(crate) chat_enable_priority: bool,
    pub(crate) chat_expose_thread_resources: bool,
    pub(crate) chat_max_image_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        let chat = agentbus_chat::ChatConfig::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], agentbus_server::DEFAULT_PORT)),
            data_dir: None,
            transport: "memory://".to_owned(),
            tenant: String::new(),
            subject_prefix: DEFAULT_PREFIX.to_owned(),
            auth: Auth::Token,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            invoke_timeout_s: agentbus::limits::INVOKE_TIMEOUT.as_secs(),
            stream_idle_timeout_s: agentbus::limits::STREAM_IDLE_TIMEOUT.as_secs(),
            drain_s: agentbus::limits::CLOSE_DRAIN.as_secs(),
            log: "info".to_owned(),
            pools: Vec::new(),
            schemas: Vec::new(),
            pool_limits: toml::Table::new(),
            agents: Vec::new(),
            mcp_profile: McpProfile::Core,
            mcp_language: "English".to_owned(),
            chat_database: None,
            chat_store: None,
            chat_live_agents: Vec::new(),
            chat_heartbeat_timeout_s: chat.heartbeat_timeout.as_secs(),
            chat_wait_timeout_s: chat.wait_timeout.as_secs(),
            chat_wait_min_ms: 0,
            chat_wait_min_enforced: chat.wait_min_enforced,
            chat_seq_tolerance: chat.seq_tolerance,
            chat_mismatch_messages_max: chat.mismatch_messages_max,
            chat_rate_limit: chat.rate_limit,
            chat_content_filter: chat.content_filter,
            chat_thread_timeout_min: 0,
            chat_sweep_interval_s: chat.sweep_interval.as_secs(),
            chat_allow_posts_in_closed: chat.allow_posts_in_closed,
            chat_enable_handoff_target: chat.enable_handoff_target,
            chat_enable_stop_reason: chat.enable_stop_reason,
            chat_enable_priority: chat.enable_priority,
            chat_expose_thread_resources: chat.expose_thread_resources,
            chat_max_image_bytes: chat.max_image_bytes,
        }
    }
}

/// Reads the file that was named, or the default one if it is there and decides nothing that it
/// must not.
pub(crate) fn load(named: Option<&Path>) -> Result<Config, Failure> {
    let config = read(named)?.1;
    match named {
        Some(_) => Ok(config),
        None => trusted(config),
    }
}

/// The same for a program that an editor starts, in whatever directory is open there: what a file
/// that nobody named must not decide is left out, and said.
fn load_guarded(named: Option<&Path>, output: &Output) -> Result<Config, Failure> {
    let (text, config) = read(named)?;
    let opened = opened(&config);
    if named.is_some() || opened.is_empty() {
        return Ok(config);
    }
    output.note(&format!(
        "{DEFAULT_FILE} in this directory sets {}, which only a file may that is named with --config; left out",
        opened.join(", ")
    ));
    without(&opened, &text).map_err(|error| {
        let message = problem::describe(Path::new(DEFAULT_FILE), &text, &error);
        Failure::new(Exit::Configuration, message)
    })
}

/// The configuration of a program that an editor starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guarded<'a> {
    pub(crate) named: Option<&'a Path>,
    /// What is to carry a bus of its own, if that was said beside the file.
    pub(crate) transport: Option<&'a str>,
    pub(crate) output: &'a Output,
}

/// Under which subjects to speak at a bus that runs already.
#[derive(Debug, Default)]
pub(crate) struct Subjects<'a> {
    /// Empty for the one of the bus.
    pub(crate) tenant: String,
    /// What the bus must have, where somebody says it.
    pub(crate) prefix: Option<Prefix<'a>>,
}

/// A subject prefix that somebody wants.
#[derive(Debug)]
pub(crate) struct Prefix<'a> {
    pub(crate) name: String,
    /// Where it stands; `None` for the command line and the environment.
    pub(crate) file: Option<&'a Path>,
}

impl<'a> Guarded<'a> {
    /// All of it, for a bus of its own.
    pub(crate) fn load(self) -> Result<Config, Failure> {
        load_guarded(self.named, self.output)?.in_this_environment()
    }

    /// The tenant and the prefix, which are all that counts at a bus that runs already. A file that
    /// nobody named has no say in it, so that it is not even read.
    pub(crate) fn subjects(self) -> Result<Subjects<'a>, Failure> {
        let Some(path) = self.named else {
            return Ok(Subjects::default());
        };
        let (text, config) = read(self.named)?;
        let config = config.in_this_environment()?;
        config.check_subjects()?;
        // A file that leaves the prefix open takes that of the bus; one that writes down the usual
        // prefix wants it.
        let prefix = sets(&text, "subject_prefix").then_some(Prefix {
            name: config.subject_prefix,
            file: Some(path),
        });
        Ok(Subjects {
            tenant: config.tenant,
            prefix,
        })
    }
}

/// Whether a file says something of a key, be it what counts without it.
fn sets(text: &str, key: &str) -> bool {
    let table = text.parse::<toml::Table>();
    table.is_ok_and(|table| table.contains_key(key))
}

fn without(keys: &[&str], text: &str) -> Result<Config, toml::de::Error> {
    let mut table: toml::Table = text.parse()?;
    for key in keys {
        table.remove(*key);
    }
    table.try_into()
}

/// Where the values come from that neither the environment nor a flag gives.
pub(crate) fn source(named: Option<&Path>) -> String {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match path.exists() {
        true => format!("{}, the environment and flags over it", path.display()),
        false => format!("no {DEFAULT_FILE} here: the environment and flags over the defaults"),
    }
}

impl Config {
    /// The same to be shown: a URL may hold a password.
    pub(crate) fn without_passwords(mut self) -> Self {
        self.transport = hidden(&self.transport);
        let shown = |url: &str| match store_place(url).split_once("://") {
            Some((scheme, place)) if scheme != "sqlite" => format!("{scheme}://…@{place}"),
            _ => url.to_owned(),
        };
        self.chat_store = self.chat_store.as_deref().map(shown);
        self
    }
}

/// Where a store of conversations is, without what only its user may know. Of what cannot be read as
/// the store would read it, only the scheme is told.
pub(crate) fn store_place(url: &str) -> String {
    if url.starts_with("sqlite://") {
        return url.to_owned();
    }
    PostgresStore::place(url).unwrap_or_else(|| match url.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://…"),
        None => "…".to_owned(),
    })
}

/// The text and what it says.
fn read(named: Option<&Path>) -> Result<(String, Config), Failure> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let config = parse(path, &text)?;
            Ok((text, config))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            Ok((String::new(), Config::default()))
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(Failure::new(Exit::Configuration, message))
        }
    }
}

/// What a directory that somebody else filled, such as a cloned repository, must not decide, and
/// this one does: who may speak, from where, and where the secrets are.
fn opened(config: &Config) -> Vec<&'static str> {
    let default = Config::default();
    let guarded = [
        ("auth", config.auth != default.auth),
        ("allow_hosts", config.allow_hosts != default.allow_hosts),
        (
            "allow_origins",
            config.allow_origins != default.allow_origins,
        ),
        ("data_dir", config.data_dir != default.data_dir),
        ("transport", config.transport != default.transport),
        ("tenant", config.tenant != default.tenant),
        (
            "subject_prefix",
            config.subject_prefix != default.subject_prefix,
        ),
        (
            "chat_database",
            config.chat_database != default.chat_database,
        ),
        ("chat_store", config.chat_store != default.chat_store),
        (
            "chat_live_agents",
            config.chat_live_agents != default.chat_live_agents,
        ),
        ("listen", !config.listen.ip().is_loopback()),
        ("pools", config.pools != default.pools),
        ("schemas", config.schemas != default.schemas),
        ("agents", config.agents != default.agents),
        ("mcp_language", config.mcp_language != default.mcp_language),
        (
            "chat_content_filter",
            config.chat_content_filter != default.chat_content_filter,
        ),
        (
            "chat_rate_limit",
            config.chat_rate_limit != default.chat_rate_limit,
        ),
        (
            "chat_max_image_bytes",
            config.chat_max_image_bytes != default.chat_max_image_bytes,
        ),
    ];
    let opened = guarded.into_iter().filter(|(_, set)| *set);
    opened.map(|(key, _)| key).collect()
}

fn trusted(config: Config) -> Result<Config, Failure> {
    match opened(&config).first() {
        None => Ok(config),
        Some(key) => Err(Failure::new(
            Exit::Configuration,
            format!(
                "{DEFAULT_FILE} sets `{key}`, which decides who may use the bus or what runs here; if you trust the \
                 file, name it: --config {DEFAULT_FILE}"
            ),
        )),
    }
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
    toml::from_str(text).map_err(|error| {
        let message = problem::describe(path, text, &error);
        Failure::new(Exit::Configuration, message)
    })
}

#[cfg(test)]
mod tests;
