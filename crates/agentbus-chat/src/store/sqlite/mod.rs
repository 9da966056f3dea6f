//! The store in a SQLite file.
//!
//! One thread writes. It takes all jobs that wait, runs them in one transaction, each undone alone
//! if it fails, and commits them with one flush of the disk: as many posters as there are share the
//! price of one. Readers have connections of their own and never wait for the writer.

mod agents;
mod company;
mod connection;
mod error;
mod events;
mod figures;
mod import;
mod index;
mod messages;
mod migrate;
mod outcomes;
mod reader;
mod search;
mod sync;
mod templates;
mod threads;
mod tx;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ambient::BoxFuture;
use crate::store::writer::Writer;
use crate::store::{Feed, ReadJob, Store, StoreError, Tx, WriteJob};
use reader::Readers;

pub use import::Imported;

/// The store in a SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
    feed: Arc<Feed>,
    /// Whether the search index lacks messages.
    behind: Arc<AtomicBool>,
}

impl SqliteStore {
    /// Opens a database, makes it if there is none, and brings its layout up to date. A database of
    /// AgentChatBus 0.1.8 is taken over as it is.
    ///
    /// # Errors
    /// Fails when the file cannot be opened, is no such database, is damaged, or is newer than this
    /// version knows.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let opening = tokio::task::spawn_blocking(move || Self::open_here(path));
        opening
            .await
            .unwrap_or_else(|gone| Err(StoreError::Failed(gone.to_string())))
    }

    fn open_here(path: PathBuf) -> Result<Self, StoreError> {
        let mut connection = connection::to_write(&path)?;
        migrate::up(&mut connection, &path)?;
        connection::without_triggers(&connection)?;
        writer::index_rest(&connection)?;
        let feed = Arc::new(Feed::default());
        let readers = Readers::open(&path)?;
        let behind = Arc::<AtomicBool>::default();
        let shared = (Arc::clone(&feed), Arc::clone(&behind));
        let writer = writer::start(connection, &path, shared)?;
        Ok(Self {
            path,
            writer,
            readers,
            feed,
            behind,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store for SqliteStore {
    fn submit(&self, job: WriteJob) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.writer.submit(job))
    }

    fn submit_now(&self, job: WriteJob) -> Result<(), StoreError> {
        self.writer.submit_now(job)
    }

    fn read(&self, job: ReadJob) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.readers.run(job))
    }

    fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    fn index_is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.readers.close();
            self.writer.close().await;
        })
    }
}

impl Tx for tx::SqliteTx<'_> {}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Takes over the conversations of an AgentChatBus database.
pub(crate) use import::{check as check_import, import as import_into};
