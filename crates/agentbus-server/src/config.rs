//! How the host is set up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentbus_acp::{Editors, SessionLog};
use agentbus_chat::ChatConfig;
use agentbus_mcp::McpConfig;

use crate::{Board, LogLines, ServerError, limits};

/// The port that clients try when they are told nothing.
pub const DEFAULT_PORT: u16 = 39765;

/// Whether clients must show the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthMode {
    /// They must.
    #[default]
    Token,
    /// They need not; only allowed on a loopback address.
    Off,
}

/// Everything the host is told; complete before any port is opened.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where the token and the lock live.
    pub data_dir: PathBuf,
    /// Whether clients must be told where that is, because they would not look there themselves.
    pub data_dir_is_named: bool,
    /// Whether clients must show the token.
    pub auth: AuthMode,
    /// Host names besides the loopback ones under which the host may be addressed.
    pub allowed_hosts: Vec<String>,
    /// Origins besides its own from which browsers may call, such as `https://example.org`.
    pub allowed_origins: Vec<String>,
    /// How long an invoke may take.
    pub invoke_timeout: Duration,
    /// Longest duration of a stream; `None` lets it run.
    pub stream_timeout: Option<Duration>,
    /// Longest silence of a stream.
    pub stream_idle_timeout: Duration,
    /// Longest silence of an event stream before a heartbeat.
    pub heartbeat: Duration,
    /// How long a shutdown lets work finish.
    pub drain: Duration,
    /// What else `/metrics` tells.
    pub figures: Option<Figures>,
    /// Where questions wait for a person; one of its own without it.
    pub decisions: Option<Board>,
    /// What happened in the sessions of agents.
    pub sessions: Option<SessionLog>,
    /// What editors are served; none come without it.
    pub editors: Option<Editors>,
    /// How conversations are held.
    pub chat: ChatConfig,
    /// Where conversations are kept; `chat.db` in the data directory without it.
    pub chat_database: Option<PathBuf>,
    /// What MCP clients are offered, besides the tools of the bus.
    pub mcp: McpConfig,
    /// The URL of the store in which conversations are kept, instead of a file: several hosts with
    /// the same `postgresql://…` hold the same conversations.
    pub chat_store: Option<String>,
    /// Targets of the bus that answer when they are mentioned in a thread.
    pub live_agents: Vec<String>,
    /// What guards the settings of conversations, besides the token of the bus.
    pub admin_token: Option<String>,
    /// The newest lines of the log, where the program keeps them; none are shown without it.
    pub log: Option<LogLines>,
}

/// Records figures of a service beside the host with the recorder that is in place.
#[derive(Clone)]
pub struct Figures(Arc<dyn Fn() + Send + Sync>);

impl Figures {
    /// Calls this for each scrape. It must not block.
    pub fn new(record: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(record))
    }

    pub(crate) fn record(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Figures")
    }
}

impl ServerConfig {
    /// The defaults, for a data directory.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            data_dir: data_dir.into(),
            data_dir_is_named: true,
            auth: AuthMode::Token,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            invoke_timeout: agentbus::limits::INVOKE_TIMEOUT,
            stream_timeout: None,
            stream_idle_timeout: agentbus::limits::STREAM_IDLE_TIMEOUT,
            heartbeat: limits::HEARTBEAT,
            drain: agentbus::limits::CLOSE_DRAIN,
            figures: None,
            decisions: None,
            sessions: None,
            editors: None,
            chat: ChatConfig::default(),
            chat_database: None,
            mcp: McpConfig::default(),
            chat_store: None,
            live_agents: Vec::new(),
            admin_token: None,
            log: None,
        }
    }

    /// Refuses what would open the bus to strangers.
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        if self.auth == AuthMode::Off || self.allowed_hosts.is_empty() {
            return Err(ServerError::Exposed {
                address: self.listen,
            });
        }
        Ok(())
    }
}
