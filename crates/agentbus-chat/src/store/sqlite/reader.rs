//! Connections for reading, shared by all who read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection;
use super::tx::SqliteTx;
use crate::limits;
use crate::store::{ReadJob, StoreError};

pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// As many permits as connections.
    free: Arc<Semaphore>,
    /// Bounds those who wait for a connection.
    places: Semaphore,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let connections = (0..limits::READERS).map(|_| connection::to_read(path));
        Ok(Self {
            idle: Arc::new(Mutex::new(connections.collect::<Result<_, _>>()?)),
            free: Arc::new(Semaphore::new(limits::READERS)),
            places: Semaphore::new(limits::READ_QUEUE),
        })
    }

    /// Runs a job on a thread that may block.
    pub(super) async fn run(&self, job: ReadJob) -> Result<(), StoreError> {
        let _place = self.places.try_acquire().map_err(|_| StoreError::Busy)?;
        let free = Arc::clone(&self.free).acquire_owned().await;
        let free = free.map_err(|_| StoreError::Closed)?;
        let idle = Arc::clone(&self.idle);
        let reading = tokio::task::spawn_blocking(move || {
            let connection = idle.lock().pop().ok_or(StoreError::Closed)?;
            let ran = look(&connection, job);
            idle.lock().push(connection);
            drop(free);
            ran
        });
        reading
            .await
            .unwrap_or_else(|gone| Err(StoreError::Failed(gone.to_string())))
    }

    /// Refuses further jobs and closes the connections that nobody uses.
    pub(super) fn close(&self) {
        self.free.close();
        self.idle.lock().clear();
    }
}

/// One job sees one state of the database, however many statements it runs.
fn look(connection: &Connection, job: ReadJob) -> Result<(), StoreError> {
    let view = connection.unchecked_transaction()?;
    // A connection that goes with a job's panic would be missing from then on.
    let ran = catch_unwind(AssertUnwindSafe(|| job(&SqliteTx::new(&view))));
    if ran.is_err() {
        tracing::error!("a read job panicked");
    }
    Ok(view.finish()?)
}
