//! What the handles, the subscriptions and the writer of one log share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use agentbus_transport::{MemoryTransport, TransportError};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::consumers::Consumers;
use crate::limits;
use crate::options::Clock;
use crate::queue::{Op, Queue, Work, answer};
use crate::reader::Readers;
use crate::tail::Tail;

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) clock: Clock,
    /// Carries what is not stored: to plain subscriptions, and between callers and handlers.
    pub(crate) live: MemoryTransport,
    pub(crate) queue: Queue,
    /// Publishes wait here for memory to wait in.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) tail: Tail,
    /// The newest message that may be read; each commit that adds some wakes the subscriptions.
    pub(crate) committed: watch::Sender<u64>,
    /// The oldest message that is kept; 0 while that is not known.
    pub(crate) first: AtomicU64,
    pub(crate) consumers: Consumers,
    /// Held while a durable name is looked up and made.
    pub(crate) naming: tokio::sync::Mutex<()>,
    /// Every task and every read; a close waits for all of them.
    pub(crate) tasks: TaskTracker,
    /// Ends the subscriptions.
    pub(crate) over: CancellationToken,
    /// Once set, nothing new is taken.
    pub(crate) closed: AtomicBool,
    /// Tells that a delivery was settled, to a close that waits for the last of them.
    pub(crate) settled: Notify,
    pub(crate) published: AtomicU64,
}

impl Store {
    pub(crate) fn new(path: PathBuf, clock: Clock, last: u64) -> Self {
        let tasks = TaskTracker::new();
        Self {
            readers: Arc::new(Readers::new(&path, tasks.clone())),
            path,
            clock,
            live: MemoryTransport::new(),
            queue: Queue::default(),
            room: Arc::new(Semaphore::new(limits::QUEUED_KIB_MAX as usize)),
            tail: Tail::default(),
            committed: watch::Sender::new(last),
            first: AtomicU64::new(0),
            consumers: Consumers::default(),
            naming: tokio::sync::Mutex::default(),
            tasks,
            over: CancellationToken::new(),
            closed: AtomicBool::new(false),
            settled: Notify::new(),
            published: AtomicU64::new(0),
        }
    }

    /// Has something written down. The order is that of the calls.
    pub(crate) fn write(
        &self,
        mut work: Work,
    ) -> impl Future<Output = Result<(), TransportError>> + Send + 'static {
        let (done, written) = oneshot::channel();
        work.done = Some(done);
        let pushed = self.queue.push(Op::Work(work));
        async move {
            pushed?;
            answer(written).await
        }
    }
}
