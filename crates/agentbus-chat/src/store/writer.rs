//! The way to the one thread that writes, the same for every store.

use std::thread;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{StoreError, WriteJob};
use crate::limits;

/// Where jobs are handed in.
pub(super) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<WriteJob>>>,
    /// Ends when the thread has.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What the thread takes its jobs from.
pub(super) struct Jobs(mpsc::Receiver<WriteJob>);

impl Jobs {
    /// Waits for a job and takes all that are there then; false after the last.
    pub(super) fn next(&mut self, batch: &mut Vec<WriteJob>) -> bool {
        self.0.blocking_recv_many(batch, limits::WRITE_BATCH_MAX) > 0
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(work: impl FnOnce(Jobs) + Send + 'static) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(limits::WRITE_QUEUE);
        let (end, ended) = oneshot::channel();
        let work = move || {
            work(Jobs(queue));
            // The receiver may be gone: nobody has to wait for the end.
            let _ = end.send(());
        };
        thread::Builder::new()
            .name("chat-writer".to_owned())
            .spawn(work)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            ended: Mutex::new(Some(ended)),
        })
    }

    pub(super) async fn submit(&self, job: WriteJob) -> Result<(), StoreError> {
        let jobs = self.jobs.lock().clone().ok_or(StoreError::Closed)?;
        jobs.send(job).await.map_err(|_| StoreError::Closed)
    }

    pub(super) fn submit_now(&self, job: WriteJob) -> Result<(), StoreError> {
        let jobs = self.jobs.lock().clone().ok_or(StoreError::Closed)?;
        jobs.try_send(job).map_err(|_| StoreError::Busy)
    }

    /// Lets the thread finish what it was given.
    pub(super) async fn close(&self) {
        self.jobs.lock().take();
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }
}
