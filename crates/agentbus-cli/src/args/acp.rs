//! What can be said about agents that speak ACP.

use clap::Subcommand;

use super::Serve;

#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// Add an agent to the configuration file.
    Add {
        /// Its name, which is its target.
        name: String,
        /// The directory inside of which files and terminals are served to it.
        #[arg(long, value_name = "DIR")]
        root: Option<std::path::PathBuf>,
        /// What becomes of its permission requests: ask, allow-once or deny.
        #[arg(long, default_value = "ask", value_parser = ["ask", "allow-once", "deny"])]
        policy: String,
        /// The program and its arguments, after `--`. No shell is involved.
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// List the agents of the configuration file.
    List,
    /// Remove an agent from the configuration file.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct AcpArgs {
    /// The agent or target that serves every session. Without it, each session chooses.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Run the bus in this process even if one is running.
    #[arg(long)]
    pub(crate) embedded: bool,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AttachArgs {
    /// The session: its id, or its name where only one agent has it. Without it, the sessions are
    /// listed.
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) session: String,
    /// Begin after this offset.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    pub(crate) after: u64,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DecisionVerb {
    /// List the questions that are open.
    List,
    /// Answer a question; the first answer counts.
    Answer {
        /// The question.
        id: String,
        /// The id of one of its options.
        option: String,
        /// The fields of a form that you accept, as a JSON object.
        #[arg(long, value_name = "JSON")]
        content: Option<String>,
    },
}
