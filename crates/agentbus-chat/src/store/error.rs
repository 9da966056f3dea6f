//! Why a store could not do its work.

use std::path::PathBuf;

/// Everything that can go wrong between a job and the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the database.
    #[error("another process holds the database; stop it, or choose another data directory")]
    Locked,
    /// The disk is full.
    #[error("the disk is full, so nothing was stored; make room and try again")]
    Full,
    /// The disk took no write, though it does not say that it is full.
    #[error(
        "the disk took no write ({reason}), so nothing was stored; look after its room, quota, \
         limit of file sizes and health, and try again"
    )]
    Unwritable {
        /// What was found.
        reason: String,
    },
    /// Another write that was stored together with this one failed and undid both.
    #[error(
        "a write that was stored together with this one failed, so nothing was stored; try again"
    )]
    Undone,
    /// The database is damaged.
    #[error("the database is damaged ({reason}); stop the bus and restore the last good copy")]
    Damaged {
        /// What was found.
        reason: String,
    },
    /// The database was written by a later version.
    #[error(
        "the database has layout {found}, and this version knows layouts up to {known}; use a newer agentbus"
    )]
    Newer {
        /// The layout of the database.
        found: i64,
        /// The newest layout that is known.
        known: i64,
    },
    /// The file cannot be opened.
    #[error("cannot open {}: {reason}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is a database of something else.
    #[error("{} is not a database of AgentChatBus: {reason}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        reason: String,
    },
    /// What is imported collides with what is there.
    #[error("{0}; import into a new data directory instead")]
    Collision(String),
    /// The server of the database cannot be reached, or does not take part any more.
    #[error(
        "the database cannot be reached ({0}); nothing was stored. Look after it, and try again"
    )]
    Unreachable(String),
    /// The connection broke while a commit was on its way.
    #[error(
        "the connection to the database broke during a commit ({0}); whether it was stored is not \
         known, so repeat it under the same idempotency key"
    )]
    Uncertain(String),
    /// A text that the database cannot hold.
    #[error("a text holds the character U+0000, which this store cannot keep; leave it out")]
    Unstorable,
    /// Too many jobs wait.
    #[error("the store has too much to do; try again in a moment")]
    Busy,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Anything else.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// Whether the same job may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Locked
                | Self::Full
                | Self::Unwritable { .. }
                | Self::Undone
                | Self::Busy
                | Self::Unreachable(_)
        )
    }
}
