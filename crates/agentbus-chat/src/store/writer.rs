//! The way to the one thread that writes, the same for every store.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

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
pub(super) struct Jobs {
    queue: mpsc::Receiver<WriteJob>,
    waker: Waker,
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Jobs {
    /// Waits for a job and takes all that are there then; false after the last.
    pub(super) fn next(&mut self, batch: &mut Vec<WriteJob>) -> bool {
        let taken = self
            .queue
            .blocking_recv_many(batch, limits::WRITE_BATCH_MAX);
        taken > 0
    }

    /// Takes up to `max` more jobs, and waits for the first as long as the patience lasts, which the
    /// wait wears out; false when there are none.
    pub(super) fn more(
        &mut self,
        batch: &mut Vec<WriteJob>,
        max: usize,
        patience: &mut Duration,
    ) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        loop {
            match self.queue.poll_recv_many(&mut cx, batch, max) {
                Poll::Ready(taken) => return taken > 0,
                Poll::Pending if patience.is_zero() => return false,
                Poll::Pending => {
                    let begun = Instant::now();
                    thread::park_timeout(*patience);
                    *patience = patience.saturating_sub(begun.elapsed());
                }
            }
        }
    }

    /// How many jobs wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(work: impl FnOnce(Jobs) + Send + 'static) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(limits::WRITE_QUEUE);
        let (end, ended) = oneshot::channel();
        let work = move || {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            work(Jobs { queue, waker });
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
