//! What can be said about conversations. A thread is named by its id or its topic.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum ThreadVerb {
    /// List threads, the newest first.
    List {
        /// Only threads in this state.
        #[arg(long, value_parser = ["discuss", "implement", "review", "done", "closed", "archived"])]
        status: Option<String>,
        /// Archived threads too.
        #[arg(long)]
        all: bool,
        /// At most so many, up to 200.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Go on after a page, which said so.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Print the latest messages of a thread.
    Show {
        /// The thread.
        thread: String,
        /// At most so many, up to 1000.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Create a thread, or find the one that has the topic.
    Create {
        /// What it is about.
        topic: String,
        /// What every agent in it is told.
        #[arg(long)]
        prompt: Option<String>,
        /// The template to begin with.
        #[arg(long)]
        template: Option<String>,
    },
    /// Close a thread.
    Close {
        /// The thread.
        thread: String,
        /// What came out of it.
        #[arg(long)]
        summary: Option<String>,
    },
    /// Open a closed thread again, for discussion.
    Reopen {
        /// The thread.
        thread: String,
    },
    /// Print a thread as a document.
    Export {
        /// The thread.
        thread: String,
        /// `md`, or `json` with edits and reactions.
        #[arg(long, default_value = "md", value_parser = ["md", "json"])]
        format: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PostArgs {
    /// The thread.
    pub(crate) thread: String,
    /// The message; `-` reads it from standard input.
    pub(crate) text: String,
    /// Under which name.
    #[arg(long = "as", value_name = "NAME", default_value = "human")]
    pub(crate) author: String,
    /// The message that it answers.
    #[arg(long, value_name = "MESSAGE")]
    pub(crate) reply_to: Option<String>,
    /// Ask for attention.
    #[arg(long)]
    pub(crate) urgent: bool,
    /// Name this post, so that sending it again stores it once.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The thread.
    pub(crate) thread: String,
    /// Wait for messages after this number; the latest one without it.
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: Option<i64>,
    /// How long, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Words, "phrases", prefix*, OR, NOT.
    pub(crate) query: String,
    /// Only in this thread.
    #[arg(long)]
    pub(crate) thread: Option<String>,
    /// Only by this author.
    #[arg(long)]
    pub(crate) author: Option<String>,
    /// The best match first instead of the newest.
    #[arg(long)]
    pub(crate) ranked: bool,
    /// At most so many, up to 200.
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u32,
    /// Go on after a page, which said so.
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportFrom {
    /// The database of an AgentChatBus 0.1.8. Repeating it changes nothing.
    Agentchatbus {
        /// The database, usually `~/.agentchatbus/bus.db`.
        file: PathBuf,
        /// The data directory of the bus, which must not be running.
        #[arg(long, env = "AGENTBUS_DATA_DIR", value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
}
