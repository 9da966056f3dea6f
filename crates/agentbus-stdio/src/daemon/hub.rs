//! The router with its connections, behind one lock.
//!
//! The lock is held for as long as the messages of one read take, writes included, and never
//! while anything is awaited.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::outlet::{Outlet, Signals};
use crate::config::{Config, Framing, Limits};
use crate::framing::TooLong;
use crate::limits::{CLIENT_QUEUE_OVERDRAFT, WORKER_QUEUE_HIGH, WORKER_QUEUE_LOW};
use crate::router::{ClientId, Garbage, Ports, Router, WorkerId};

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) router: Router,
    outlets: Outlets,
    next_client: u64,
    /// The full workers that each client has sent to; only it has to wait for them.
    feeding: HashMap<ClientId, Vec<WorkerId>>,
    /// Workers whose first start has neither succeeded nor failed.
    untried: HashSet<WorkerId>,
}

#[derive(Debug)]
struct Outlets {
    clients: HashMap<ClientId, Outlet>,
    workers: Vec<Option<Outlet>>,
    framing: Framing,
    /// Those that got something since the last write.
    touched_clients: Vec<ClientId>,
    touched_workers: Vec<WorkerId>,
    /// The worker that got the last message.
    last_fed: Option<WorkerId>,
}

/// One end that is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client(ClientId),
    Worker(WorkerId),
}

/// Why a client is not read for now.
pub(super) struct Pause {
    /// Fires when it is worth looking again.
    pub(super) room: Arc<Signals>,
}

impl Hub {
    pub(super) fn new(config: &Config) -> Self {
        let workers = config.pools.iter().map(|pool| pool.instances).sum();
        Self {
            router: Router::new(config),
            outlets: Outlets {
                clients: HashMap::new(),
                workers: std::iter::repeat_with(|| None).take(workers).collect(),
                framing: config.framing,
                touched_clients: Vec::new(),
                touched_workers: Vec::new(),
                last_fed: None,
            },
            next_client: 0,
            feeding: HashMap::new(),
            untried: (0..workers).map(WorkerId).collect(),
        }
    }

    pub(super) fn add_client(&mut self, outlet: Outlet) -> ClientId {
        let client = ClientId(self.next_client);
        self.next_client += 1;
        self.router.client_joined(client);
        self.outlets.clients.insert(client, outlet);
        client
    }

    pub(super) fn remove_client(&mut self, client: ClientId) {
        self.router.client_left(client);
        self.feeding.remove(&client);
        if let Some(mut outlet) = self.outlets.clients.remove(&client) {
            outlet.cut();
        }
    }

    /// Notes that a start was tried.
    pub(super) fn tried(&mut self, worker: WorkerId) {
        self.untried.remove(&worker);
    }

    /// Whether every worker was started once, or cannot be.
    pub(super) fn all_tried(&self) -> bool {
        self.untried.is_empty()
    }

    pub(super) fn add_worker(&mut self, worker: WorkerId, outlet: Outlet) {
        self.tried(worker);
        self.outlets.workers[worker.0] = Some(outlet);
        self.router.worker_started(worker);
    }

    /// Closes a worker's input and answers what it owes.
    pub(super) fn remove_worker(&mut self, worker: WorkerId) {
        if let Some(mut outlet) = self.outlets.workers[worker.0].take() {
            outlet.cut();
        }
        self.router.worker_ended(worker, &mut self.outlets);
        self.write();
    }

    pub(super) fn route_from_client(&mut self, client: ClientId, message: &[u8], now: Instant) {
        self.outlets.last_fed = None;
        self.router
            .from_client(client, message, now, &mut self.outlets);
        let Some(worker) = self.outlets.last_fed else {
            return;
        };
        if self.outlets.waiting_for(worker) > WORKER_QUEUE_HIGH {
            let fed = self.feeding.entry(client).or_default();
            if !fed.contains(&worker) {
                fed.push(worker);
            }
        }
    }

    pub(super) fn route_from_worker(
        &mut self,
        worker: WorkerId,
        line: &[u8],
    ) -> Result<(), Garbage> {
        self.router.from_worker(worker, line, &mut self.outlets)
    }

    /// Tells a client that its message is too long, and ends its connection.
    pub(super) fn refuse_length(&mut self, client: ClientId, error: TooLong) {
        Router::unreadable(client, -32600, &error.to_string(), &mut self.outlets);
        self.write();
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        self.router.sweep(now, &mut self.outlets);
        self.write();
    }

    /// Writes what was sent since the last time: one system call for each end, however many
    /// messages it got.
    pub(super) fn write(&mut self) {
        let outlets = &mut self.outlets;
        for client in outlets.touched_clients.drain(..) {
            if let Some(outlet) = outlets.clients.get_mut(&client) {
                outlet.write();
            }
        }
        for worker in outlets.touched_workers.drain(..) {
            if let Some(outlet) = &mut outlets.workers[worker.0] {
                outlet.write();
            }
        }
    }

    /// The outlet of an end that still exists.
    pub(super) fn outlet(&mut self, end: End) -> Option<&mut Outlet> {
        match end {
            End::Client(client) => self.outlets.clients.get_mut(&client),
            End::Worker(worker) => self.outlets.workers[worker.0].as_mut(),
        }
    }

    /// Whether a client must not be read for now: because it does not take its answers, or
    /// because a worker does not take what clients send.
    pub(super) fn pause(
        &mut self,
        client: ClientId,
        limits: &Limits,
        paused: bool,
    ) -> Option<Pause> {
        let own = self.outlets.clients.get(&client)?;
        let own_max = limits.max_output_queue / if paused { 2 } else { 1 };
        if own.len() > own_max {
            return Some(Pause {
                room: own.signals(),
            });
        }
        let fed = self.feeding.get_mut(&client)?;
        fed.retain(|worker| self.outlets.waiting_for(*worker) > WORKER_QUEUE_LOW);
        let full = self.outlets.workers[fed.first()?.0].as_ref()?;
        Some(Pause {
            room: full.signals(),
        })
    }

    /// Cuts off a client that has not taken its answers for too long, or whose answers would
    /// take too much memory. Says whether it did.
    pub(super) fn cut_if_stuck(&mut self, client: ClientId, limits: &Limits, now: Instant) -> bool {
        let Some(outlet) = self.outlets.clients.get_mut(&client) else {
            return true;
        };
        let waiting = outlet.len();
        if waiting <= limits.max_output_queue {
            outlet.over_since = None;
            return outlet.is_over();
        }
        let since = *outlet.over_since.get_or_insert(now);
        let overdrawn = waiting / CLIENT_QUEUE_OVERDRAFT > limits.max_output_queue;
        if overdrawn || now - since >= limits.backpressure_timeout {
            tracing::warn!(
                client = client.0,
                waiting,
                "cut off a client that does not read"
            );
            outlet.cut();
        }
        outlet.is_over()
    }

    /// Whether every client has what was sent to it.
    pub(super) fn all_written(&self) -> bool {
        self.outlets
            .clients
            .values()
            .all(|outlet| outlet.len() == 0)
    }

    /// Whether a client has what was sent to it, or cannot take it.
    pub(super) fn has_written(&self, client: ClientId) -> bool {
        let outlet = self.outlets.clients.get(&client);
        outlet.is_none_or(|outlet| outlet.len() == 0 || outlet.is_over())
    }

    /// Ends every connection once it has what was sent to it.
    pub(super) fn close_clients(&mut self) {
        for outlet in self.outlets.clients.values_mut() {
            outlet.close();
            outlet.write();
        }
    }
}

impl Outlets {
    fn waiting_for(&self, worker: WorkerId) -> usize {
        self.workers[worker.0].as_ref().map_or(0, Outlet::len)
    }
}

impl Ports for Outlets {
    fn to_worker(&mut self, worker: WorkerId, line: [&[u8]; 3]) {
        let Some(outlet) = &mut self.workers[worker.0] else {
            return;
        };
        line.iter().for_each(|part| outlet.push(part));
        outlet.push(b"\n");
        self.last_fed = Some(worker);
        if self.touched_workers.last() != Some(&worker) {
            self.touched_workers.push(worker);
        }
    }

    fn to_client(&mut self, client: ClientId, message: [&[u8]; 3]) {
        let Some(outlet) = self.clients.get_mut(&client) else {
            return;
        };
        if self.framing == Framing::Length {
            let length: usize = message.iter().map(|part| part.len()).sum();
            // Messages are bounded by the input limit, which the length's four bytes hold.
            outlet.push(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
        message.iter().for_each(|part| outlet.push(part));
        if self.framing == Framing::Ndjson {
            outlet.push(b"\n");
        }
        if self.touched_clients.last() != Some(&client) {
            self.touched_clients.push(client);
        }
    }

    fn close(&mut self, client: ClientId) {
        if let Some(outlet) = self.clients.get_mut(&client) {
            outlet.close();
            self.touched_clients.push(client);
        }
    }
}
