//! Drives the core inside the caller's tokio runtime.
//!
//! One mutex guards the core and all queues; it is never held across an await. Whoever reads a
//! line also routes and writes it, so no channel and no other task stands on its way. Each peer
//! has one task; see `link.rs`.
//!
//! What may surprise: reads and writes happen with the mutex held. They never block, and the
//! shared read buffer could not be shared otherwise.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::core::{Core, Micros, WorkerId};
use crate::framing::Framing;
use crate::limits::{Limits, READ_BUFFER_BYTES, WORKER_HIGH_BYTES, WORKER_LOW_BYTES};

mod bell;
mod calls;
pub(crate) mod client;
pub(crate) mod handshake;
pub(crate) mod link;
pub(crate) mod listen;
mod out;
pub(crate) mod post;
pub(crate) mod reap;
pub(crate) mod standard;
mod watch;
pub(crate) mod worker;
mod worker_side;

pub(crate) use client::ClientState;
use post::Mouths;

/// Everything behind the mutex.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) core: Core,
    mouths: Mouths,
    /// By slot, beside the mouths: what a connection's task has to know.
    clients: Vec<Option<ClientState>>,
    workers: Vec<WorkerState>,
    buffer: Vec<u8>,
    /// Whether the one client at standard output holds up all workers.
    held_up: bool,
    /// Whether somebody watches the clock for the core.
    clock_watched: bool,
    /// Told when somebody has to.
    pub(crate) clock_needed: Arc<Notify>,
    /// Told when a worker has room again, for calls that wait for it.
    pub(crate) room: Arc<Notify>,
}

/// What the driver knows of a worker besides its queue.
#[derive(Debug, Default)]
pub(crate) struct WorkerState {
    /// Clients that are not read until this worker has room.
    waiters: Vec<crate::core::ClientId>,
    /// Told when the worker is needed although it sleeps.
    pub(crate) needed: Arc<Notify>,
    pub(crate) pid: Option<i32>,
    pub(crate) log: std::collections::VecDeque<String>,
}

/// The bus, as its tasks share it.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    started: Instant,
    pub(crate) limits: Limits,
    pub(crate) framing: Framing,
    /// Ends every task.
    pub(crate) over: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(config: &Config) -> Self {
        let core = Core::new(config, rand::random());
        let count = core.worker_ids().count();
        let mut workers = Vec::new();
        workers.resize_with(count, WorkerState::default);
        let outs = core.worker_ids();
        let mouths = Mouths::new(outs.map(|_| out::Out::new(None, Framing::Ndjson)).collect());
        let inner = Inner {
            core,
            mouths,
            clients: Vec::new(),
            workers,
            buffer: vec![0; READ_BUFFER_BYTES],
            held_up: false,
            clock_watched: false,
            clock_needed: Arc::default(),
            room: Arc::new(Notify::new()),
        };
        Self {
            inner: Mutex::new(inner),
            started: Instant::now(),
            limits: config.limits,
            framing: config.transport.framing,
            over: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Returns the time since the bus started, in the unit of the core.
    pub(crate) fn now(&self) -> Micros {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the time since the bus started.
    pub(crate) fn age(&self) -> std::time::Duration {
        self.started.elapsed()
    }
}

impl Inner {
    /// Wakes what the core turned out to need: workers that were asleep, and its clock.
    fn wake_needed(&mut self) {
        if !self.clock_watched && self.core.awaits_tick() {
            self.clock_watched = true;
            self.clock_needed.notify_one();
        }
        for id in std::mem::take(&mut self.core.woken) {
            self.workers[id.0 as usize].needed.notify_one();
        }
    }

    /// Lets the time do its work. Returns whether it will have more to do.
    pub(crate) fn tick(&mut self, now: Micros) -> bool {
        self.with_post(|core, post| core.tick(now, post));
        self.clock_watched = self.core.awaits_tick();
        self.clock_watched
    }

    pub(crate) fn worker_state(&mut self, id: WorkerId) -> &mut WorkerState {
        &mut self.workers[id.0 as usize]
    }

    pub(crate) fn queued_for(&self, id: WorkerId) -> usize {
        self.mouths.workers[id.0 as usize].queued()
    }

    /// Notes how full a worker's queue is, and lets its clients be read again once it is not.
    fn weigh(&mut self, id: WorkerId) {
        let queued = self.queued_for(id);
        let worker = self.core.worker_mut(id);
        if queued > WORKER_HIGH_BYTES {
            worker.congested = true;
        } else if queued < WORKER_LOW_BYTES && worker.congested {
            worker.congested = false;
            self.room.notify_waiters();
            for client in std::mem::take(&mut self.workers[id.0 as usize].waiters) {
                self.resume(client, id);
            }
        }
    }

    /// Routes lines of our own making.
    pub(crate) fn with_post<T>(
        &mut self,
        route: impl FnOnce(&mut Core, &mut post::Post<'_>) -> T,
    ) -> T {
        let mut post = self.mouths.post();
        let result = route(&mut self.core, &mut post);
        post.finish();
        self.wake_needed();
        result
    }

    /// Tells whether lines wait for a connection.
    pub(crate) fn owes_clients(&self) -> bool {
        self.mouths
            .clients
            .iter()
            .flatten()
            .any(|mouth| match mouth {
                post::Mouth::Wire(out) => out.queued() > 0 && !out.is_broken(),
                post::Mouth::Call(_) => false,
            })
    }
}
