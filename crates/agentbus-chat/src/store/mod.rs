//! What keeps conversations: the contract of a store, and the stores there are.
//!
//! A store runs **jobs**: functions over a [`Tx`], each in a transaction of its own in effect, though
//! a store may commit many together. What a conversation means is written once, as jobs; a store
//! only knows rows.
//!
//! What every store promises, and the contract kit checks: a job's changes are stored whole or not
//! at all; a job that answers [`Promise::Stored`] is answered when its changes would survive a loss
//! of power; jobs see the changes of all jobs before them; `seq` and event numbers are visible in
//! their order, without gaps that fill later; readers see only what is committed; the [`Feed`] tells
//! of a change after readers can see it, and tells it to everyone who asked before.

mod error;
mod feed;
mod figures;
mod job;
#[cfg(feature = "postgres")]
pub mod postgres;
mod rows;
mod snippet;
pub mod sqlite;
mod writer;

use std::fmt;
use std::sync::Arc;

pub use error::StoreError;
pub use feed::{Effects, Feed, ThreadWatch};
pub use figures::Figures;
pub(crate) use job::{look, perform, perform_detached};
#[cfg(feature = "postgres")]
pub use postgres::{Obstacle, PostgresStore, Survey};
pub use rows::{
    AgentRows, EventRows, MessageQuery, MessageRows, OutcomeRows, SearchRows, SyncRows,
    TemplateRows, ThreadRows, Tx, WaitRun,
};
pub(crate) use snippet::has_no_spaces;
pub use sqlite::SqliteStore;

use crate::ambient::BoxFuture;

/// When a job is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// When its changes would survive a loss of power.
    Stored,
    /// As soon as all later jobs see its changes. They may be lost in a crash: right for signs of
    /// life and for reply tokens, whose loss costs their owner one more wait, and which would
    /// otherwise make every waiter wait for the disk.
    Soon,
}

/// What became of a job's changes.
pub type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What a job leaves behind.
pub struct Ran {
    /// Whether its changes are kept; a failed job's are undone.
    pub keep: bool,
    /// Tells the one who waits.
    pub answer: Answer,
}

/// The work of a job. Exactly one of its methods is called, or the job is dropped, which its owner
/// notices.
pub trait Work: Send {
    /// Does the work.
    fn run(self: Box<Self>, tx: &mut dyn Tx) -> Ran;
    /// Learns why it cannot be done at all.
    fn refuse(self: Box<Self>, error: StoreError);
}

/// A job that may change something.
pub struct WriteJob {
    /// When to answer.
    pub promise: Promise,
    /// The work.
    pub work: Box<dyn Work>,
}

/// A job that only looks.
pub type ReadJob = Box<dyn FnOnce(&dyn Tx) + Send>;

/// Keeps conversations.
pub trait Store: fmt::Debug + Send + Sync {
    /// Hands a job to the writer, waiting while its queue is full. Cancel-safe: a job that was not
    /// handed over is dropped, and its owner learns that from the dropped answer.
    fn submit(&self, job: WriteJob) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Hands a job over without waiting, for those who are being dropped.
    ///
    /// # Errors
    /// Fails when the queue is full or the store is closed.
    fn submit_now(&self, job: WriteJob) -> Result<(), StoreError>;

    /// Runs a job over what is committed.
    fn read(&self, job: ReadJob) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Tells of changes.
    fn feed(&self) -> &Arc<Feed>;

    /// Whether the search index lacks messages that are committed.
    fn index_is_behind(&self) -> bool {
        false
    }

    /// Whether the work that time brings is done here. Where several nodes share a store, one of
    /// them does it.
    fn leads(&self) -> bool {
        true
    }

    /// Finishes the jobs that were handed over, and lets go of everything.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Opens the store that a URL names.
///
/// # Errors
/// Fails when this build has no such kind of store, or when the store does.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    match url.split_once("://") {
        Some(("sqlite", path)) if !path.is_empty() => Ok(Arc::new(SqliteStore::open(path).await?)),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(PostgresStore::open(url).await?)),
        #[cfg(not(feature = "postgres"))]
        Some(("postgres" | "postgresql", _)) => Err(StoreError::Failed(
            "this program was built without PostgreSQL; build it with the feature `postgres`"
                .to_owned(),
        )),
        // The URL may hold a password, so it is not repeated.
        _ => Err(StoreError::Failed(
            "the URL names no store that there is; write sqlite://PATH or \
             postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
                .to_owned(),
        )),
    }
}

impl fmt::Debug for WriteJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteJob")
            .field("promise", &self.promise)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ran")
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}
