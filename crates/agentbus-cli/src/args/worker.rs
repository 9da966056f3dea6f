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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Says what it is told.
    Echo,
    /// Asks a model behind an endpoint that speaks OpenAI's chat completions.
    #[value(name = "openai")]
    OpenAi,
}
