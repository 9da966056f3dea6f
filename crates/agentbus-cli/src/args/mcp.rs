//! What `agentbus mcp` takes.

use agentbus_mcp::Profile;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::Serve;

#[derive(Debug, Args)]
pub(crate) struct McpArgs {
    /// Which tools are listed: those that most agents need, or all of them.
    #[arg(long)]
    pub(crate) profile: Option<McpProfile>,
    /// The language that agents are asked to prefer.
    #[arg(long, value_name = "LANGUAGE")]
    pub(crate) lang: Option<String>,
    /// Run the bus in this process even if one is running, which then needs a --data-dir and a
    /// --listen of its own.
    #[arg(long)]
    pub(crate) embedded: bool,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// Which tools are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum McpProfile {
    /// Those that most agents need.
    Core,
    /// All of them.
    Full,
}

impl McpProfile {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Full => "full",
        }
    }
}

impl From<McpProfile> for Profile {
    fn from(profile: McpProfile) -> Self {
        match profile {
            McpProfile::Core => Self::Core,
            McpProfile::Full => Self::Full,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Only these hosts: claude, codex, gemini, vscode, cursor, zed. All that are there without it.
    pub(crate) hosts: Vec<String>,
    /// Write without asking.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Show what would change, and write nothing.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Restore the files as they were before.
    #[arg(long)]
    pub(crate) undo: bool,
}
