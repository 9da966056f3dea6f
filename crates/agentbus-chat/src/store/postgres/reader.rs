//! Threads that read, each with a connection of its own, and one queue for all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::connection::{Seat, Target};
use super::tx::PgTx;
use crate::limits;
use crate::store::{ReadJob, StoreError};

/// One job sees one state of the database, however many statements it runs.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

struct Task {
    job: ReadJob,
    done: oneshot::Sender<Result<(), StoreError>>,
}

pub(super) struct Readers(Mutex<Option<mpsc::Sender<Task>>>);

impl Readers {
    /// Connections are made when they are needed first.
    pub(super) fn start(target: &Target) -> Result<Self, StoreError> {
        let (tasks, queue) = mpsc::channel(limits::READ_QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..limits::READERS {
            let (queue, seat) = (Arc::clone(&queue), Seat::new(target.clone(), None));
            thread::Builder::new()
                .name("chat-reader".to_owned())
                .spawn(move || work(&queue, seat))
                .map_err(|error| StoreError::Failed(error.to_string()))?;
        }
        Ok(Self(Mutex::new(Some(tasks))))
    }

    pub(super) async fn run(&self, job: ReadJob) -> Result<(), StoreError> {
        let (done, result) = oneshot::channel();
        let tasks = self.0.lock().clone().ok_or(StoreError::Closed)?;
        tasks
            .try_send(Task { job, done })
            .map_err(|refused| match refused {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Closed(_) => StoreError::Closed,
            })?;
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Refuses further jobs; the threads end with the jobs they have.
    pub(super) fn close(&self) {
        self.0.lock().take();
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Task>>, mut seat: Seat) {
    loop {
        // Held while waiting: whoever is next waits for the lock instead of for a task.
        let task = queue.lock().blocking_recv();
        let Some(Task { job, done }) = task else {
            return;
        };
        // Whoever asked may have left.
        let _ = done.send(look(&mut seat, job));
    }
}

fn look(seat: &mut Seat, job: ReadJob) -> Result<(), StoreError> {
    let connection = seat.begin(BEGIN)?;
    // Nothing is served by a reader but looks, so the node does not matter.
    let tx = PgTx::new(connection, 0);
    let ran = catch_unwind(AssertUnwindSafe(|| job(&tx)));
    if ran.is_err() {
        tracing::error!("a read job panicked");
    }
    tx.batch("COMMIT")
}
