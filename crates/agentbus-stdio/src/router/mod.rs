//! Decides where each message goes. It knows no descriptors, no tasks and no clock.
//!
//! **Correlation.** A request is remembered under the worker it went to and the id it went with.
//! When that id is in use at that worker already, by whichever client, the request travels under
//! an id of the bus's own and its answer gets the client's back, byte for byte. So two clients
//! that count from 1 never hear each other's answers, and in the usual case no byte is changed.
//!
//! **Sessions.** The first message of a session chooses a worker and every later one follows it,
//! whoever sends it, for as long as that worker lives. Every client that uses a session hears what
//! its worker says in it; a session outlives the client that began it.
//!
//! **Every request is answered**: by a worker, or with one of the errors in [`Code`].
//!
//! What would surprise: the entry of a request whose client has left, or that timed out, stays
//! until the worker answers or ends. Without it, the late answer would be taken for the answer to
//! another request with the same id.

mod answers;
mod from_client;
mod from_worker;
mod own;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Instant;

use crate::code::Code;
use crate::config::{Balance, Config, Limits};
use sessions::Sessions;

/// One worker, counted over all pools from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub usize);

/// One client connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// Where the router's messages go. A message comes in three parts that follow one another without
/// anything between them, so that an id can be changed without a copy of the rest.
pub trait Ports {
    /// Sends a line to a worker.
    fn to_worker(&mut self, worker: WorkerId, line: [&[u8]; 3]);
    /// Sends a message to a client.
    fn to_client(&mut self, client: ClientId, message: [&[u8]; 3]);
    /// Ends a client's connection once it has what was sent.
    fn close(&mut self, client: ClientId);
}

/// What the router has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages to clients.
    pub messages_out: u64,
    /// Requests that the bus answered with an error.
    pub refused: u64,
    /// Messages of workers that nobody was there for.
    pub undeliverable: u64,
    /// Messages of clients that no worker was there for and that want no answer.
    pub dropped: u64,
    /// Lines that were no JSON object.
    pub malformed: u64,
}

/// A line of a worker that is no JSON object; the worker cannot be trusted any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the worker printed a line that is no JSON-RPC message: {0}")]
pub struct Garbage(pub agentbus_protocol::jsonrpc::ScanError);

/// The state of the whole bus, as far as routing goes.
#[derive(Debug)]
pub struct Router {
    pools: Vec<Pool>,
    workers: Vec<Worker>,
    clients: HashMap<ClientId, Client>,
    sessions: Sessions,
    limits: Limits,
    draining: bool,
    counts: Counts,
}

#[derive(Debug)]
struct Pool {
    id: String,
    balance: Balance,
    workers: Vec<WorkerId>,
    cursor: usize,
}

#[derive(Debug, Default)]
struct Worker {
    pool: usize,
    running: bool,
    /// How often it was started.
    epoch: u64,
    /// By the text of the id that the worker knows.
    pending: HashMap<Box<str>, Pending>,
    /// Ids of the bus's own that were used.
    own_ids: u64,
}

/// A request that a worker has not answered.
#[derive(Debug)]
struct Pending {
    /// `None` once nobody waits any more.
    client: Option<ClientId>,
    /// The id as the client wrote it.
    id: Box<[u8]>,
    since: Instant,
}

#[derive(Debug, Default)]
struct Client {
    pending: usize,
    /// Requests of workers that this client was asked and has not answered, by id.
    asked: HashMap<Box<str>, WorkerId>,
}

impl Router {
    /// Makes a router for the workers of a configuration, none of which runs yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut workers = Vec::new();
        let mut pools = Vec::new();
        for (index, pool) in config.pools.iter().enumerate() {
            let first = workers.len();
            workers.extend((0..pool.instances).map(|_| Worker {
                pool: index,
                ..Worker::default()
            }));
            pools.push(Pool {
                id: pool.id.clone(),
                balance: pool.balance,
                workers: (first..workers.len()).map(WorkerId).collect(),
                cursor: 0,
            });
        }
        Self {
            pools,
            workers,
            clients: HashMap::new(),
            sessions: Sessions::new(config.limits.max_sessions, config.limits.session_idle),
            limits: config.limits.clone(),
            draining: false,
            counts: Counts::default(),
        }
    }

    /// Adds a client.
    pub fn client_joined(&mut self, client: ClientId) {
        self.clients.insert(client, Client::default());
    }

    /// Removes a client. Its sessions stay, with their workers.
    pub fn client_left(&mut self, client: ClientId) {
        self.clients.remove(&client);
        self.sessions.leave(client);
        let pending = self.workers.iter_mut().flat_map(|w| w.pending.values_mut());
        for request in pending.filter(|request| request.client == Some(client)) {
            request.client = None;
        }
    }

    /// Says that a worker takes messages.
    pub fn worker_started(&mut self, worker: WorkerId) {
        let worker = &mut self.workers[worker.0];
        worker.running = true;
        worker.epoch += 1;
    }

    /// Says that a worker is gone: what it owed is answered with an error, and its sessions begin
    /// anew with their next message.
    pub fn worker_ended(&mut self, worker: WorkerId, ports: &mut impl Ports) {
        self.workers[worker.0].running = false;
        self.sessions.forget_worker(worker);
        for client in self.clients.values_mut() {
            client.asked.retain(|_, asker| *asker != worker);
        }
        let owed = std::mem::take(&mut self.workers[worker.0].pending);
        for (_, request) in owed {
            self.fail(&request, Code::WorkerDied, ports);
        }
    }

    /// Takes no new requests from now on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether nobody waits for an answer.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.clients.values().all(|client| client.pending == 0)
    }

    /// Whether a client waits for an answer.
    #[must_use]
    pub fn owes(&self, client: ClientId) -> bool {
        self.clients
            .get(&client)
            .is_some_and(|client| client.pending > 0)
    }

    /// Answers requests that have taken too long.
    pub fn sweep(&mut self, now: Instant, ports: &mut impl Ports) {
        let Some(timeout) = self.limits.request_timeout else {
            return;
        };
        let pending = self.workers.iter_mut().flat_map(|w| w.pending.values_mut());
        let overdue: Vec<_> = pending
            .filter(|request| request.client.is_some() && now - request.since >= timeout)
            .map(|request| Pending {
                client: request.client.take(),
                id: request.id.clone(),
                since: request.since,
            })
            .collect();
        for request in overdue {
            self.fail(&request, Code::TimedOut, ports);
        }
    }

    /// What was done so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The pool of a worker.
    #[must_use]
    pub fn pool_of(&self, worker: WorkerId) -> &str {
        &self.pools[self.workers[worker.0].pool].id
    }

    /// How many sessions are known.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Answers whoever still waits for a request with an error.
    fn fail(&mut self, request: &Pending, code: Code, ports: &mut impl Ports) {
        let Some(client) = request.client else {
            return;
        };
        if let Some(waiting) = self.clients.get_mut(&client) {
            waiting.pending = waiting.pending.saturating_sub(1);
            self.refuse(client, &request.id, code, None, ports);
        }
    }
}
