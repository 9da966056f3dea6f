//! What can be said about dead letters and durable names.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterVerb {
    /// List dead letters, the newest first; the default.
    List(ListLetters),
    /// Send dead letters to where they were going.
    Redrive(RedriveLetters),
    /// Forget a dead letter for good.
    Drop {
        /// The id of the letter.
        id: String,
    },
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct ListLetters {
    /// Only letters of events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Only letters with this reason, such as `handler_error` or `expired`.
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,
    /// Leave out so many of the newest.
    #[arg(long, value_name = "N")]
    pub(crate) offset: Option<usize>,
    /// Print so many; 100 unless given, at most 1000.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RedriveLetters {
    /// The id of the letter.
    #[arg(required_unless_present = "all")]
    pub(crate) id: Option<String>,
    /// Send all of them, the oldest first.
    #[arg(long, conflicts_with = "id")]
    pub(crate) all: bool,
    /// Of all, only letters of events of this type.
    #[arg(long = "type", value_name = "TYPE", requires = "all")]
    pub(crate) event_type: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DurableVerb {
    /// List the durable names: what they listen on, who uses them, and how far they have come.
    List,
    /// Forget a durable name and what it has not settled; the next `sub --durable` begins anew.
    Remove {
        /// The durable name.
        name: String,
    },
}
