//! The store in a PostgreSQL database, which several nodes of the bus share.
//!
//! Each node has one thread that writes, a few that read, and one that listens. Nodes write one
//! after the other: a writing transaction begins by locking the one row of the counters, so numbers
//! become visible in their order over all nodes, and one commit carries all jobs that waited. Who
//! waits at another node is woken by a notice that is part of the commit.
//!
//! A node that dies leaves nothing behind: its transaction is undone, and its waits end with its
//! session. A connection that breaks is made again; what was on its way is answered with an error
//! that says whether it is known to be undone.

mod agents;
mod connection;
mod error;
mod events;
mod figures;
mod handshake;
mod login;
mod messages;
mod migrate;
mod outcomes;
mod place;
mod query;
mod reader;
mod relay;
mod search;
mod survey;
mod sync;
mod templates;
mod threads;
mod tls;
mod tx;
mod words;
mod writer;

use std::fmt;
use std::sync::Arc;

use crate::ambient::BoxFuture;
use crate::store::writer::Writer;
use crate::store::{Feed, ReadJob, Store, StoreError, Tx, WriteJob};
use connection::{Connection, Seat, Target};
use reader::Readers;
use relay::Listener;
pub use survey::{Obstacle, Survey};

/// The store in a PostgreSQL database.
pub struct PostgresStore {
    writer: Writer,
    readers: Readers,
    listener: Listener,
    feed: Arc<Feed>,
}

impl PostgresStore {
    /// Opens a database, makes the tables if there are none, and brings them up to date. Its URL is
    /// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
    ///
    /// # Errors
    /// Fails when the database cannot be reached, or is newer than this version knows.
    pub async fn open(url: impl Into<String>) -> Result<Self, StoreError> {
        let url = url.into();
        let opening = tokio::task::spawn_blocking(move || Self::open_here(&url));
        opening
            .await
            .unwrap_or_else(|gone| Err(StoreError::Failed(gone.to_string())))
    }

    /// Looks at a database as a bus would find it now, and changes nothing in it.
    ///
    /// # Errors
    /// Fails when a bus could not keep its conversations there, and says what to do.
    pub async fn survey(url: impl Into<String>) -> Result<Survey, Obstacle> {
        let url = url.into();
        let looking = tokio::task::spawn_blocking(move || survey::survey(&url));
        looking
            .await
            .unwrap_or_else(|gone| Err(Obstacle::new(gone.to_string(), "try again")))
    }

    /// Hosts, ports and the name of the database of a URL, to be shown; `None` for one that cannot be
    /// read.
    #[must_use]
    pub fn place(url: &str) -> Option<String> {
        place::place(url)
    }

    fn open_here(url: &str) -> Result<Self, StoreError> {
        let target = Target::parse(url)?;
        let mut connection = Connection::open(&target)?;
        migrate::up(&mut connection)?;
        let feed = Arc::new(Feed::default());
        let listener = Listener::start(target.clone(), Arc::clone(&feed))?;
        let readers = Readers::start(&target)?;
        let seat = Seat::new(target, Some(connection));
        let writer = writer::start(seat, Arc::clone(&listener.relay))?;
        Ok(Self {
            writer,
            readers,
            listener,
            feed,
        })
    }
}

impl Store for PostgresStore {
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

    fn leads(&self) -> bool {
        self.listener.relay.leads()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.readers.close();
            self.writer.close().await;
            self.listener.close().await;
        })
    }
}

impl Tx for tx::PgTx<'_> {}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("node", &self.listener.relay.node())
            .finish_non_exhaustive()
    }
}
