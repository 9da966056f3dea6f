//! What there is to say about an agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;

/// One agent: what to run, where, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Its name, which is its target.
    pub name: String,
    /// The program and its arguments. No shell is involved.
    pub command: Vec<String>,
    /// Environment variables besides those of the bus.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it runs and where its sessions work; the root without it, or the directory of the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// The directory inside of which files and terminals are served to it; none are without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// What becomes of its permission requests, and with `deny` of everything else it asks for.
    #[serde(default)]
    pub policy: Policy,
    /// Kinds of tool calls that are allowed once, whatever the policy says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_kinds: Vec<ToolKind>,
    /// Whether its sessions are given the tools of the bus.
    #[serde(default = "yes")]
    pub bus_tools: bool,
    /// Its limits.
    #[serde(default)]
    pub limits: AgentLimits,
}

/// What becomes of permission requests that no kind allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// A person is asked.
    #[default]
    Ask,
    /// They are allowed, each for once.
    AllowOnce,
    /// They are refused.
    Deny,
}

/// What a tool call does, in the words of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the protocol's own words")]
pub enum ToolKind {
    Read,
    Edit,
    Delete,
    Move,
    Search,
    Execute,
    Think,
    Fetch,
    SwitchMode,
    Other,
}

/// Limits of one agent; the defaults are those of [`limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentLimits {
    /// Seconds until `initialize` must be answered.
    pub initialize_s: u64,
    /// Seconds until a session must be open.
    pub opening_s: u64,
    /// Seconds that a cancelled turn may take to end.
    pub cancel_s: u64,
    /// Seconds that a question waits for a person.
    pub decision_s: u64,
    /// Sessions that are remembered.
    pub sessions: usize,
    /// Turns that wait in one session.
    pub queue: usize,
}

/// Why an agent cannot be served as it is described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("agents.{name}: {problem}")]
pub struct ConfigError {
    name: String,
    problem: String,
}

const fn yes() -> bool {
    true
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self {
            initialize_s: limits::INITIALIZE.as_secs(),
            opening_s: limits::SESSION_OPENING.as_secs(),
            cancel_s: limits::CANCEL_GRACE.as_secs(),
            decision_s: limits::DECISION.as_secs(),
            sessions: limits::SESSIONS_MAX,
            queue: limits::SESSION_QUEUE,
        }
    }
}

impl AgentLimits {
    pub(crate) const fn initialize(&self) -> Duration {
        Duration::from_secs(self.initialize_s)
    }

    pub(crate) const fn opening(&self) -> Duration {
        Duration::from_secs(self.opening_s)
    }

    pub(crate) const fn cancel(&self) -> Duration {
        Duration::from_secs(self.cancel_s)
    }

    pub(crate) const fn decision(&self) -> Duration {
        Duration::from_secs(self.decision_s)
    }
}

impl AgentConfig {
    /// An agent of this name that runs this program, with every other setting at its default.
    #[must_use]
    pub fn new(name: impl Into<String>, command: Vec<String>) -> Self {
        Self {
            name: name.into(),
            command,
            env: BTreeMap::new(),
            cwd: None,
            root: None,
            policy: Policy::default(),
            allow_kinds: Vec::new(),
            bus_tools: true,
            limits: AgentLimits::default(),
        }
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the agent and what is wrong with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        let failed = |problem: String| ConfigError {
            name: self.name.clone(),
            problem,
        };
        if self.command.first().is_none_or(String::is_empty) {
            return Err(failed(
                "`command` names no program; write it as [\"program\", \"argument\"]".to_owned(),
            ));
        }
        for (key, path) in [("cwd", &self.cwd), ("root", &self.root)] {
            if path.as_deref().is_some_and(Path::is_relative) {
                return Err(failed(format!("`{key}` must be an absolute path")));
            }
        }
        let limits = [
            ("sessions", self.limits.sessions),
            ("queue", self.limits.queue),
        ];
        match limits.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(failed(format!("`limits.{key}` must be at least 1"))),
            None => Ok(()),
        }
    }

    /// Where the sessions work.
    pub(crate) fn directory(&self) -> PathBuf {
        let named = self.cwd.clone().or_else(|| self.root.clone());
        named
            .or_else(|| std::env::current_dir().ok())
            .unwrap_or_else(|| PathBuf::from("/"))
    }
}
