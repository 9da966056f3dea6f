//! The process bus at work, inside the runtime it is called from.
//!
//! There is one task for each client, one for each worker, one for each end that is written to,
//! and one that looks at the clock. Messages never pass between tasks: whoever reads them routes
//! them and writes them on, under the lock of the hub. All tasks belong to the daemon and have
//! ended when [`Daemon::run`] returns; every worker has been waited for.

mod client;
mod hub;
mod inlet;
mod listen;
mod outlet;
mod worker;

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::limits::SWEEP_EVERY;
use crate::router::{ClientId, WorkerId};
use hub::{End, Hub};
use listen::Listener;
pub use listen::{Listen, ListenError};

/// How long the first clients wait for the workers to be started.
const FIRST_START: Duration = Duration::from_secs(10);

/// How long the last answers may take to be read when the bus ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a daemon ended badly.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No client can be taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Standard input or output cannot be used.
    #[error("standard input and output cannot be used: {0}")]
    Stdio(#[source] io::Error),
}

/// A process bus that is about to run.
#[derive(Debug)]
pub struct Daemon {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    hub: Mutex<Hub>,
    /// Fires when the workers are to end.
    over: CancellationToken,
    /// By when all workers must have ended, once that is known.
    deadline: Mutex<Option<Instant>>,
    /// Something happened that the end may wait for: an answer, a worker that came or went.
    changed: Notify,
    tasks: TaskTracker,
}

impl Daemon {
    /// Makes a daemon; nothing is started yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            shared: Arc::new(Shared {
                hub: Mutex::new(Hub::new(&config)),
                config,
                over: CancellationToken::new(),
                deadline: Mutex::new(None),
                changed: Notify::new(),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// Runs until `stop` resolves or, on standard input and output, the client has said all. Then
    /// takes no more requests, finishes what is running within the drain time, and ends the workers.
    ///
    /// # Errors
    /// Fails when no client can be taken; no worker is left then either.
    pub async fn run(
        self,
        listen: &Listen,
        stop: impl Future<Output = ()>,
    ) -> Result<(), DaemonError> {
        let shared = self.shared;
        let listener = Listener::open(listen).await?;
        let stdio = match listener {
            None => Some(listen::stdio().map_err(DaemonError::Stdio)?),
            Some(_) => None,
        };
        shared.start_workers();
        // The first request must not find an empty house only because it came early.
        shared
            .until(Instant::now() + FIRST_START, Hub::all_tried)
            .await;
        let sweeper = tokio::spawn(sweep(Arc::clone(&shared)));
        match (listener, stdio) {
            (Some(listener), _) => tokio::select! {
                () = accept(&shared, listener) => {}
                () = stop => {}
            },
            (None, Some((input, output))) => {
                let session = client::serve(Arc::clone(&shared), input, output);
                let mut session = shared.tasks.spawn(session);
                tokio::select! {
                    _ = &mut session => {}
                    () = stop => {}
                }
            }
            (None, None) => stop.await,
        }
        shared.end().await;
        sweeper.abort();
        Ok(())
    }
}

/// Takes clients for ever.
async fn accept(shared: &Arc<Shared>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(fd) => {
                let session = client::serve(Arc::clone(shared), Arc::clone(&fd), fd);
                shared.tasks.spawn(session);
            }
            Err(error) => {
                // Usually too many descriptors; clients that leave give some back.
                tracing::warn!(%error, "cannot take a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn sweep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        shared.hub.lock().sweep(Instant::now());
    }
}

impl Shared {
    fn start_workers(self: &Arc<Self>) {
        let mut number = 0;
        for pool in &self.config.pools {
            for _ in 0..pool.instances {
                let worker = worker::keep(Arc::clone(self), WorkerId(number), pool.clone());
                self.tasks.spawn(worker);
                number += 1;
            }
        }
    }

    /// Finishes what is running, ends the workers and the connections, and waits for all tasks.
    async fn end(&self) {
        let drain = self.config.limits.drain_timeout;
        let deadline = Instant::now() + drain;
        *self.deadline.lock() = Some(deadline);
        self.hub.lock().router.drain();
        self.until(deadline, |hub| hub.router.is_quiet()).await;
        self.until(Instant::now() + LAST_WORDS, Hub::all_written)
            .await;
        self.over.cancel();
        self.hub.lock().close_clients();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until something is true of the hub, at most to a deadline.
    async fn until(&self, deadline: Instant, is_so: impl Fn(&Hub) -> bool) {
        let waiting = async {
            loop {
                // Made before the look, so that a change in between is not missed.
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if is_so(&self.hub.lock()) {
                    return;
                }
                // Writing is no change that is told; it is looked for now and then.
                let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
            }
        };
        let _ = tokio::time::timeout_at(deadline.into(), waiting).await;
    }

    /// What is left of the drain time.
    fn time_left(&self) -> Duration {
        let deadline = *self.deadline.lock();
        deadline.map_or(Duration::ZERO, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        })
    }

    /// Waits until a client that will say no more has all its answers, or cannot take them.
    async fn answered(&self, client: ClientId) {
        let deadline = Instant::now() + self.config.limits.drain_timeout;
        self.until(deadline, |hub| !hub.router.owes(client)).await;
        self.flushed(client).await;
    }

    /// Waits until a client has what was sent to it, or cannot take it.
    async fn flushed(&self, client: ClientId) {
        let deadline = Instant::now() + LAST_WORDS;
        self.until(deadline, |hub| hub.has_written(client)).await;
    }

    /// Starts the task that writes what an end did not take at once.
    fn spawn_flusher(self: &Arc<Self>, end: End) {
        let Some((fd, signals)) = self
            .hub
            .lock()
            .outlet(end)
            .map(|outlet| (outlet.fd(), outlet.signals()))
        else {
            return;
        };
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            loop {
                let over = {
                    let mut hub = shared.hub.lock();
                    // Another worker's outlet may have taken the place in the meantime.
                    match hub
                        .outlet(end)
                        .filter(|outlet| Arc::ptr_eq(&outlet.fd(), &fd))
                    {
                        Some(outlet) => outlet.is_over(),
                        None => true,
                    }
                };
                if over {
                    return;
                }
                let mut work = std::pin::pin!(signals.work.notified());
                tokio::select! {
                    () = &mut work => shared.write_rest(end, &fd).await,
                    () = shared.over.cancelled() => return shared.write_rest(end, &fd).await,
                }
            }
        });
    }

    /// Writes what waits for one end, as fast as it is taken.
    async fn write_rest(&self, end: End, fd: &Arc<OwnedFd>) {
        if !self.still_blocked(end, fd) {
            return;
        }
        // A duplicate, because the descriptor itself may be registered for reading.
        let registered = fd
            .try_clone()
            .and_then(|fd| inlet::watch(Arc::new(fd), Interest::WRITABLE));
        let Ok(ready) = registered else {
            // What cannot be waited for does not block either, or is broken.
            return self.cut(end);
        };
        while self.still_blocked(end, fd) {
            let wait = tokio::time::timeout(SWEEP_EVERY, ready.writable()).await;
            if let Ok(Ok(mut writable)) = wait {
                writable.clear_ready();
                if let Some(outlet) = self.hub.lock().outlet(end) {
                    outlet.write();
                }
            }
            if self.over.is_cancelled() && self.time_left() == Duration::ZERO {
                return self.cut(end);
            }
        }
    }

    /// Whether an end still has something to write that it did not take. A client that has not
    /// taken it for too long is cut off here.
    fn still_blocked(&self, end: End, fd: &Arc<OwnedFd>) -> bool {
        let mut hub = self.hub.lock();
        if let End::Client(client) = end
            && hub.cut_if_stuck(client, &self.config.limits, Instant::now())
        {
            return false;
        }
        hub.outlet(end)
            .filter(|outlet| Arc::ptr_eq(&outlet.fd(), fd))
            .is_some_and(|outlet| outlet.is_blocked() && !outlet.is_over())
    }

    fn cut(&self, end: End) {
        if let Some(outlet) = self.hub.lock().outlet(end) {
            outlet.cut();
        }
    }
}
