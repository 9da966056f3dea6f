//! What can be said to the workers that speak ACP.

use std::path::PathBuf;

use clap::ValueEnum;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AcpWorker {
    /// What answers. `openai` asks a model and reads OPENAI_BASE_URL, OPENAI_API_KEY,
    /// OPENAI_MODEL, OPENAI_SYSTEM_PROMPT, OPENAI_MAX_TOKENS, OPENAI_TEMPERATURE and
    /// OPENAI_CONTEXT_TOKENS.
    #[arg(long, env = "AGENTBUS_WORKER_ENGINE", default_value = "echo")]
    pub(crate) engine: Engine,
    /// Where sessions are kept; `agentbus/worker` in the user's state directory unless given.
    #[arg(long, env = "AGENTBUS_WORKER_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What to log on standard error, for example `info` or `agentbus_acp=debug`.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(crate) log: String,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RegistryWorker {
    /// The index of the registry: a file or a URL.
    #[arg(long, env = "ACP_REGISTRY_URL", value_name = "FILE|URL")]
    pub(crate) registry: Option<String>,
    /// Agents of one's own, in the form of an index; they win over those of the registry.
    #[arg(long, env = "ACP_CUSTOM_AGENTS_PATH", value_name = "FILE")]
    pub(crate) custom_agents: Option<PathBuf>,
    /// Keys of agents: {"agents":{"ID":{"apiKey":"…","env":{}}}}.
    #[arg(long, env = "ACP_API_KEYS_PATH", value_name = "FILE")]
    pub(crate) api_keys: Option<PathBuf>,
    /// What must be met by an agent: {"ID":{"version":"…","sha256":"…"}}.
    #[arg(long, value_name = "FILE")]
    pub(crate) pins: Option<PathBuf>,
    /// Fetch no index; use the copy of last time.
    #[arg(long)]
    pub(crate) offline: bool,
    /// The agent of messages that name none, so that any ACP client can be served.
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Who can log people in: {"providers":{"NAME":{"issuer":"…","clientId":"…","scopes":[],
    /// "agents":["ID"]}}}. OAUTH_NAME_CLIENT_SECRET is the secret, if there is one.
    #[arg(long, env = "ACP_OAUTH_PROVIDERS_PATH", value_name = "FILE")]
    pub(crate) providers: Option<PathBuf>,
    /// Log in at a provider, or at an agent by its own method, and end.
    #[arg(long, value_name = "NAME", group = "account")]
    pub(crate) login: Option<String>,
    /// The agent's method to log in by; its first one that can be done here unless given.
    #[arg(long, value_name = "ID", requires = "login")]
    pub(crate) method: Option<String>,
    /// Forget the token of a provider, or all tokens, have them revoked, and end.
    #[arg(long, value_name = "NAME", group = "account", num_args = 0..=1, default_missing_value = "")]
    pub(crate) logout: Option<String>,
    /// Print who is logged in and which agents have the key that they need, and end.
    #[arg(long, group = "account")]
    pub(crate) auth_status: bool,
    /// Show what can be logged in to and log in to what is chosen, in a terminal.
    #[arg(long, group = "account")]
    pub(crate) setup: bool,
    /// Open a browser when a message needs a login.
    #[arg(long, env = "AUTH_AUTO_OAUTH", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) auto_login: bool,
    /// The key that tokens are kept under: a file; `auth/key` in the data directory unless given,
    /// or a key made of AGENTBUS_REGISTRY_PASSPHRASE if that is set.
    #[arg(long, value_name = "FILE", group = "token_key")]
    pub(crate) key_file: Option<PathBuf>,
    /// Keep that key in the keychain of the system.
    #[arg(long, group = "token_key")]
    pub(crate) keychain: bool,
    /// How long agents get to end, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) shutdown_timeout: u64,
    /// Where the copy of the index and fetched programs are kept; `agentbus/registry` in the
    /// user's state directory unless given.
    #[arg(long, env = "AGENTBUS_REGISTRY_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What to log on standard error; `info` shows what agents write there.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(crate) log: String,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ProxyWorker {
    /// The socket of the bus, instead of a port.
    #[arg(long, value_name = "PATH")]
    pub(crate) unix: Option<PathBuf>,
    /// The host of the bus.
    #[arg(long, env = "ACP_HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// The port of the bus.
    #[arg(long, env = "ACP_PORT", default_value_t = 9000)]
    pub(crate) port: u16,
    /// The agent to prompt, if a registry launcher is behind the bus.
    #[arg(long, env = "AGENT_ID", value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Let the agent run tools that it asks permission for; otherwise they are rejected.
    #[arg(long)]
    pub(crate) allow_tools: bool,
    /// What to log on standard error.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(crate) log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Says what it is told.
    Echo,
    /// Asks a model behind an endpoint that speaks OpenAI's chat completions.
    #[value(name = "openai")]
    OpenAi,
}
