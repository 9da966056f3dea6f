//! Pools for a program to embed: start them, call them, serve clients, stop them.
//!
//! Everything happens inside the runtime that [`Pools::start`] is called in. Dropping the last
//! handle ends all tasks and kills all workers; [`Pools::shutdown`] lets them finish first.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, PoolConfig};
use crate::core::{ClientKind, Counters, Latency};
use crate::driver::Shared;
use crate::driver::client::Connection;
use crate::driver::listen::{self, ListenError, UnixSocket};
use crate::driver::reap::Reaper;
use crate::driver::standard::Standard;
use crate::driver::worker::{Command, Keeper};
use crate::limits::HOUSEKEEPING;

/// Time between two looks at whether a stop may go on.
const STOP_LOOK: Duration = Duration::from_millis(10);

/// Running pools.
///
/// A handle that can be cloned and shared.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agentbus_stdio::{Call, Config, Pools};
///
/// // `cat` answers each request with itself; the result makes the line an answer.
/// let config = Config::parse(br#"{"pools":[{"id":"p","command":"cat","instances":1}]}"#)?;
/// let pools = Pools::start(config).await;
/// let call = Call::new("m").pool("p").member("result", "7");
/// let answer = pools.call(&call)?.finish().await?;
/// assert_eq!(answer.result(), Some("7"));
/// pools.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Pools {
    pub(crate) shared: Arc<Shared>,
    owner: Arc<Owner>,
}

/// Ends everything when the last handle is gone.
#[derive(Debug)]
struct Owner {
    over: CancellationToken,
    /// Ends the listeners, before the connections.
    closed: CancellationToken,
    keepers: Mutex<Vec<mpsc::Sender<Command>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.closed.cancel();
        self.over.cancel();
    }
}

/// What there is to know of a worker.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerStatus {
    /// Its pool.
    pub pool: String,
    /// Its place in the pool.
    pub instance: u32,
    /// `running`, `starting`, `asleep`, `restarting` or `given_up`.
    pub state: &'static str,
    /// Process number, if there is a process.
    pub pid: Option<i32>,
    /// How often it was started.
    pub epoch: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// Requests it has not answered.
    pub in_flight: usize,
    /// Bytes that wait for it.
    pub queued_bytes: usize,
    /// What went to it and came from it.
    #[serde(flatten)]
    pub counters: Counters,
    /// How long its answers took.
    #[serde(skip)]
    pub latency: Latency,
}

impl Pools {
    /// Starts every worker, and returns once each has started or failed to.
    ///
    /// A worker that cannot be started does not stop the others: it is tried again as
    /// configured, and its state is told by [`status`](Self::status).
    pub async fn start(config: Config) -> Self {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let shared = Arc::new(Shared::new(&config));
        let owner = Arc::new(Owner {
            over: shared.over.clone(),
            closed: CancellationToken::new(),
            keepers: Mutex::new(Vec::new()),
        });
        let pools = Self { shared, owner };
        let started: Vec<oneshot::Receiver<()>> = pools.open_all(&config.pools);
        pools.keep_house();
        for first in started {
            let _ = first.await;
        }
        pools
    }

    /// Spawns one task per worker, in the order of their numbers.
    fn open_all(&self, entries: &[PoolConfig]) -> Vec<oneshot::Receiver<()>> {
        // The core numbers workers in the order of the entries, whatever pools they share.
        let configs = entries.iter().flat_map(|entry| {
            let entry = Arc::new(entry.clone());
            (0..entry.instances).map(move |_| Arc::clone(&entry))
        });
        let ids = self.shared.lock().core.worker_ids();
        let mut keepers = self.owner.keepers.lock();
        ids.zip(configs)
            .map(|(id, config)| {
                let (commands, receiver) = mpsc::channel(4);
                let (started, first) = oneshot::channel();
                let shared = Arc::clone(&self.shared);
                let keeper = Keeper::new(shared, id, config, receiver, started);
                let over = self.shared.over.clone();
                self.shared.tasks.spawn(async move {
                    tokio::select! {
                        () = keeper.run() => {}
                        () = over.cancelled() => {}
                    }
                });
                keepers.push(commands);
                first
            })
            .collect()
    }

    /// Spawns the task that watches the clock for the core.
    fn keep_house(&self) {
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            let over = shared.over.clone();
            tokio::select! {
                () = watch_clock(&shared) => {}
                () = over.cancelled() => {}
            }
        });
    }

    /// Serves clients on a Unix socket, whose file is removed at the end.
    ///
    /// # Errors
    ///
    /// A [`ListenError`] that says what is in the way.
    pub fn listen_unix(&self, path: &Path) -> Result<(), ListenError> {
        self.accept_unix(listen::bind_unix(path)?);
        Ok(())
    }

    pub(crate) fn accept_unix(&self, socket: UnixSocket) {
        let (shared, closed) = (Arc::clone(&self.shared), self.owner.closed.clone());
        self.shared
            .tasks
            .spawn(listen::accept_unix(shared, socket, closed));
    }

    /// Serves clients on a TCP port and returns its address. An empty host means all addresses.
    ///
    /// There is no authentication: whoever reaches the port uses the workers.
    ///
    /// # Errors
    ///
    /// A [`ListenError`] that says what is in the way.
    pub async fn listen_tcp(&self, host: &str, port: u16) -> Result<SocketAddr, ListenError> {
        let listener = listen::bind_tcp(host, port).await?;
        self.accept_tcp(listener)
            .map_err(|source| ListenError::Bind {
                place: format!("{host}:{port}"),
                source,
            })
    }

    pub(crate) fn accept_tcp(&self, listener: TcpListener) -> std::io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "other machines can use the workers without a password");
        }
        let (shared, closed) = (Arc::clone(&self.shared), self.owner.closed.clone());
        self.shared
            .tasks
            .spawn(listen::accept_tcp(shared, listener, closed));
        Ok(address)
    }

    /// Serves the client at standard input and output until it has said all and heard all.
    pub(crate) fn serve_standard(&self, standard: &Standard) -> JoinHandle<()> {
        let connection = Connection {
            reader: Arc::clone(&standard.reader),
            writer: Arc::clone(&standard.writer),
            kind: ClientKind::Sole,
            framing: self.shared.framing,
        };
        listen::spawn(&self.shared, connection)
    }

    /// Tells about every worker.
    #[must_use]
    pub fn status(&self) -> Vec<WorkerStatus> {
        let mut inner = self.shared.lock();
        let ids = inner.core.worker_ids();
        ids.map(|id| {
            let pid = inner.worker_state(id).pid;
            let queued_bytes = inner.queued_for(id);
            let worker = inner.core.worker(id);
            WorkerStatus {
                pool: inner.core.pools[worker.pool].name.to_string(),
                instance: worker.instance,
                state: worker.reach.name(),
                pid,
                epoch: worker.epoch,
                restarts: worker.epoch.saturating_sub(1),
                in_flight: inner.core.in_flight_of(id),
                queued_bytes,
                counters: worker.counters,
                latency: worker.latency,
            }
        })
        .collect()
    }

    /// Returns the counters of the whole bus.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.lock().core.counters
    }

    /// Returns how many clients are connected.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.shared.lock().core.client_count()
    }

    /// Returns how many sessions are remembered.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.shared.lock().core.session_count()
    }

    /// Returns the last lines that a pool's workers wrote to standard error, worker by worker.
    #[must_use]
    pub fn logs(&self, pool: &str) -> Vec<(u32, String)> {
        let mut inner = self.shared.lock();
        let Some(pool) = inner.core.pool_by_name(pool) else {
            return Vec::new();
        };
        let workers = inner.core.pools[pool].workers.clone();
        let mut lines = Vec::new();
        for id in workers {
            let instance = inner.core.worker(id).instance;
            let log = &inner.worker_state(id).log;
            lines.extend(log.iter().map(|line| (instance, line.clone())));
        }
        lines
    }

    /// Replaces the processes of a pool, each once it has no work, and revives those given up.
    ///
    /// Returns whether there is such a pool.
    pub async fn restart(&self, pool: &str) -> bool {
        let workers = {
            let inner = self.shared.lock();
            let Some(pool) = inner.core.pool_by_name(pool) else {
                return false;
            };
            inner.core.pools[pool].workers.clone()
        };
        for id in workers {
            let keeper = self.owner.keepers.lock().get(id.0 as usize).cloned();
            if let Some(keeper) = keeper {
                let _ = keeper.send(Command::Restart).await;
            }
        }
        true
    }

    /// Takes no new work, finishes what is under way, and ends the workers.
    ///
    /// All of it takes at most `drain_timeout_sec`; what is not done by then is answered with an
    /// error and killed. Cancelling it leaves the bus without new work; call it again.
    pub async fn shutdown(&self) {
        let patience = Duration::from_secs(self.shared.limits.drain_timeout_sec);
        let deadline = Instant::now() + patience;
        self.owner.closed.cancel();
        self.shared.lock().core.stopping = true;
        // Some of the time is for workers to end in.
        let work_until = deadline - patience / 5;
        self.until(work_until, |shared| shared.lock().core.in_flight() == 0)
            .await;
        self.end_workers(deadline).await;
        self.until(deadline, |shared| !shared.lock().owes_clients())
            .await;
        self.abort().await;
    }

    /// Ends every worker by `deadline`.
    async fn end_workers(&self, deadline: Instant) {
        let keepers = std::mem::take(&mut *self.owner.keepers.lock());
        for keeper in &keepers {
            let _ = keeper.send(Command::Stop { deadline }).await;
        }
        for keeper in keepers {
            keeper.closed().await;
        }
    }

    /// Kills what is left, without waiting for anything but that.
    pub async fn abort(&self) {
        self.owner.closed.cancel();
        self.shared.over.cancel();
        self.shared.lock().wake_calls();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    async fn until(&self, deadline: Instant, done: impl Fn(&Shared) -> bool) {
        while !done(&self.shared) && Instant::now() < deadline {
            tokio::time::sleep(STOP_LOOK).await;
        }
    }

    /// Collects orphans of the workers from now on, for a process that does nothing else. `ended` is
    /// told when a child has ended, also one that was inherited.
    pub(crate) fn bury_orphans(&self, reaper: Reaper, ended: Signal) {
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            let over = shared.over.clone();
            tokio::select! {
                () = bury(&shared, reaper, ended) => {}
                () = over.cancelled() => {}
            }
        });
    }
}

async fn bury(shared: &Shared, mut reaper: Reaper, mut ended: Signal) {
    while ended.recv().await.is_some() {
        let mut more = true;
        while more {
            tokio::time::sleep(HOUSEKEEPING).await;
            let ours: HashSet<i32> = {
                let mut inner = shared.lock();
                let ids = inner.core.worker_ids();
                ids.filter_map(|id| inner.worker_state(id).pid).collect()
            };
            more = reaper.look(&ours);
        }
    }
}

/// Watches the clock while there is anything to watch it for: each wait of a runtime costs more
/// while a timer runs.
async fn watch_clock(shared: &Shared) {
    let needed = Arc::clone(&shared.lock().clock_needed);
    loop {
        needed.notified().await;
        let mut more = true;
        while more {
            tokio::time::sleep(HOUSEKEEPING).await;
            let now = shared.now();
            more = shared.lock().tick(now);
        }
    }
}
