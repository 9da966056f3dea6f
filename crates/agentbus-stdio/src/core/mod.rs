//! The routing core: who gets which line.
//!
//! It knows clients, workers, sessions and what is owed to whom. It performs no I/O, has no clock
//! and no randomness: lines, time and ids come in, lines go out through an [`Outlet`]. One caller
//! at a time uses it, so it has no lock either.
//!
//! The surprising invariant: **it never refuses to forward because a queue is long.** It only
//! prefers other workers; pausing readers is the affair of whoever drives it.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use smol_str::SmolStr;

use crate::codes::Fault;
use crate::config::{Balance, Config};
use crate::limits::{DEADLINES_SWEPT, Limits};

mod control;
mod desk;
mod from_client;
mod from_worker;
mod pick;
mod sessions;
pub(crate) mod slab;
mod status;
#[cfg(test)]
mod tests;

use desk::Desk;
use sessions::Sessions;
use slab::{Key, Slab};
pub use status::{Counters, Latency};

/// Microseconds since the bus started.
pub(crate) type Micros = u64;

/// Names a client that may be gone.
pub(crate) type ClientId = Key;

/// Names the place of a worker in its pool; its process changes, its place does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WorkerId(pub(crate) u32);

/// A line on its way out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Line<'a> {
    /// The bytes that came in.
    Same(&'a [u8]),
    /// The bytes that came in, with another id between them.
    Spliced(&'a [u8], &'a [u8], &'a [u8]),
    /// Bytes of our own.
    Own(&'a [u8]),
}

/// Where lines go out.
pub(crate) trait Outlet {
    /// Sends to a worker.
    fn worker(&mut self, to: WorkerId, line: Line<'_>);
    /// Sends to a client.
    fn client(&mut self, to: ClientId, line: Line<'_>);
}

/// What kind of client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientKind {
    /// One of many connections.
    Wire,
    /// The one at standard input and output.
    Sole,
    /// One call from our own process.
    Call,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) kind: ClientKind,
    pub(crate) in_flight: u32,
    /// The session of a call.
    session: Option<sessions::SessionId>,
}

/// Whether a worker can be given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It runs.
    Up,
    /// It is being started; what it is given waits for it.
    Starting,
    /// It was stopped because nobody needed it; the next work starts it.
    Asleep,
    /// It ended and will be started again.
    Down,
    /// It ended and will not be started again.
    GivenUp,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pool: usize,
    pub(crate) instance: u32,
    pub(crate) epoch: u64,
    pub(crate) reach: Reach,
    /// Whether so much waits for it that others are preferred.
    pub(crate) congested: bool,
    /// Whether it is due to be replaced, so that others are preferred.
    pub(crate) retiring: bool,
    desk: Desk,
    /// Calls from our own process that it works on.
    calls: Vec<ClientId>,
    pub(crate) last_used: Micros,
    /// Requests given to the present process.
    pub(crate) requests: u64,
    pub(crate) counters: Counters,
    pub(crate) latency: Latency,
}

#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: SmolStr,
    pub(crate) workers: Vec<WorkerId>,
    balance: Balance,
    cursor: usize,
}

/// A request whose time runs.
#[derive(Debug)]
struct Deadline {
    due: Micros,
    worker: WorkerId,
    key: SmolStr,
    serial: u64,
}

/// The routing core.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) pools: Vec<Pool>,
    /// Entries of the configuration, of which several may share a name and hence a pool.
    pool_entries: usize,
    pools_by_name: HashMap<SmolStr, usize, RandomState>,
    pools_by_agent: HashMap<SmolStr, usize, RandomState>,
    workers: Vec<Worker>,
    clients: Slab<Client>,
    sessions: Sessions,
    limits: Limits,
    /// In the order in which they fall due, as all requests have the same time.
    deadlines: VecDeque<Deadline>,
    /// Number of deadlines at which those of answered requests are dropped.
    deadlines_swept_at: usize,
    /// Workers that were asleep and are needed.
    pub(crate) woken: Vec<WorkerId>,
    pub(crate) stopping: bool,
    pub(crate) counters: Counters,
    /// Distinguishes the session names that the bus makes up from those of another run.
    salt: u64,
    minted: u64,
    scratch: Vec<u8>,
}

impl Core {
    pub(crate) fn new(config: &Config, salt: u64) -> Self {
        let mut core = Self {
            pools: Vec::new(),
            pool_entries: config.pools.len(),
            pools_by_name: HashMap::default(),
            pools_by_agent: HashMap::default(),
            workers: Vec::new(),
            clients: Slab::default(),
            sessions: Sessions::default(),
            limits: config.limits,
            deadlines: VecDeque::new(),
            deadlines_swept_at: DEADLINES_SWEPT,
            woken: Vec::new(),
            stopping: false,
            counters: Counters::default(),
            salt,
            minted: 0,
            scratch: Vec::new(),
        };
        for entry in &config.pools {
            let pool = core.pool_named(&entry.id, entry.balance);
            for agent in &entry.agents {
                core.pools_by_agent.insert(SmolStr::new(agent), pool);
            }
            for _ in 0..entry.instances {
                core.add_worker(pool);
            }
        }
        core
    }

    fn pool_named(&mut self, name: &str, balance: Balance) -> usize {
        if let Some(pool) = self.pools_by_name.get(name) {
            return *pool;
        }
        let (pool, name) = (self.pools.len(), SmolStr::new(name));
        self.pools_by_name.insert(name.clone(), pool);
        self.pools.push(Pool {
            name,
            workers: Vec::new(),
            balance,
            cursor: 0,
        });
        pool
    }

    fn add_worker(&mut self, pool: usize) {
        let id = WorkerId(u32::try_from(self.workers.len()).unwrap_or(u32::MAX));
        let Some(home) = self.pools.get_mut(pool) else {
            return;
        };
        let instance = u32::try_from(home.workers.len()).unwrap_or(u32::MAX);
        home.workers.push(id);
        self.workers.push(Worker {
            pool,
            instance,
            epoch: 0,
            reach: Reach::Starting,
            congested: false,
            retiring: false,
            desk: Desk::default(),
            calls: Vec::new(),
            last_used: 0,
            requests: 0,
            counters: Counters::default(),
            latency: Latency::default(),
        });
    }

    pub(crate) fn worker(&self, id: WorkerId) -> &Worker {
        &self.workers[id.0 as usize]
    }

    pub(crate) fn worker_mut(&mut self, id: WorkerId) -> &mut Worker {
        &mut self.workers[id.0 as usize]
    }

    pub(crate) fn worker_ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        (0..self.workers.len()).filter_map(|index| u32::try_from(index).ok().map(WorkerId))
    }

    pub(crate) fn pool_by_name(&self, name: &str) -> Option<usize> {
        self.pools_by_name.get(name).copied()
    }

    pub(crate) fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(id)
    }

    pub(crate) fn client_count(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn in_flight_of(&self, worker: WorkerId) -> usize {
        self.worker(worker).desk.in_flight()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.workers
            .iter()
            .map(|worker| worker.desk.in_flight())
            .sum()
    }

    /// Admits a client, unless there are too many.
    pub(crate) fn open_client(&mut self, kind: ClientKind) -> Result<ClientId, Fault> {
        if kind == ClientKind::Wire && self.clients.len() as u64 >= self.limits.max_clients {
            return Err(Fault::TooManyClients);
        }
        self.counters.connects += u64::from(kind != ClientKind::Call);
        Ok(self.clients.insert(Client {
            kind,
            in_flight: 0,
            session: None,
        }))
    }

    /// Returns a number that no other call has.
    pub(crate) fn mint_call(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }

    /// Forgets a client. Its sessions live on; what it was asked is answered for it.
    pub(crate) fn close_client(&mut self, id: ClientId, out: &mut impl Outlet) {
        let Some(client) = self.clients.remove(id) else {
            return;
        };
        self.counters.disconnects += u64::from(client.kind != ClientKind::Call);
        if client.in_flight > 0 {
            self.abandon_requests(id);
        }
        if let Some(session) = client.session.and_then(|id| self.sessions.get_mut(id)) {
            session.clients.retain(|other| *other != id);
        }
        self.answer_for(id, out);
    }

    fn abandon_requests(&mut self, id: ClientId) {
        for worker in &mut self.workers {
            worker.calls.retain(|call| *call != id);
            for session in worker.desk.abandon_all(id).into_iter().flatten() {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.in_flight = session.in_flight.saturating_sub(1);
                }
            }
        }
    }

    /// Answers the workers' requests that only a client now gone could have answered.
    fn answer_for(&mut self, gone: ClientId, out: &mut impl Outlet) {
        let Self {
            workers,
            clients,
            scratch,
            ..
        } = self;
        for (index, worker) in workers.iter_mut().enumerate() {
            worker.desk.asked.retain(|_, asked| {
                let addressed = asked.clients.contains(&gone);
                if !addressed || asked.clients.iter().any(|other| clients.contains(*other)) {
                    return true;
                }
                scratch.clear();
                let data = serde_json::Map::new();
                crate::codes::write_error(scratch, asked.raw.as_bytes(), Fault::NoClient, data);
                if let Ok(index) = u32::try_from(index) {
                    out.worker(WorkerId(index), Line::Own(scratch));
                }
                false
            });
        }
    }

    /// Notes that a worker has ended: what it owed is answered with `fault`.
    pub(crate) fn worker_ended(&mut self, id: WorkerId, fault: Fault, out: &mut impl Outlet) {
        self.sessions.close_of(id);
        let worker = self.worker_mut(id);
        worker.calls.clear();
        worker.retiring = false;
        worker.congested = false;
        worker.requests = 0;
        let epoch = worker.epoch;
        for (key, pending) in self.worker_mut(id).desk.clear() {
            let Some(client) = pending.client else {
                continue;
            };
            let data = self.worker_data(id, epoch);
            self.settle(client);
            self.answer_error(client, pending.raw_id(&key).as_bytes(), fault, data, out);
        }
    }

    /// Notes that a worker without work gets a fresh process. Its sessions stay with it.
    pub(crate) fn worker_renewed(&mut self, id: WorkerId) {
        let worker = self.worker_mut(id);
        worker.desk.asked.clear();
        worker.retiring = false;
        worker.requests = 0;
    }

    /// Tells whether something may fall due by the time alone.
    pub(crate) fn awaits_tick(&self) -> bool {
        !self.deadlines.is_empty() || self.sessions_expire()
    }

    fn sessions_expire(&self) -> bool {
        self.limits.session_idle_sec > 0 && self.sessions.len() > 0
    }

    /// Answers requests whose time is over, and forgets sessions nobody uses.
    pub(crate) fn tick(&mut self, now: Micros, out: &mut impl Outlet) {
        self.expire_sessions(now);
        while self.deadlines.front().is_some_and(|first| first.due <= now) {
            let Some(deadline) = self.deadlines.pop_front() else {
                return;
            };
            let worker = self.worker_mut(deadline.worker);
            let Some(late) = worker.desk.abandon(&deadline.key, deadline.serial) else {
                continue;
            };
            worker.calls.retain(|call| *call != late.client);
            let data = self.worker_data(deadline.worker, self.worker(deadline.worker).epoch);
            self.leave_session(late.session);
            self.settle(late.client);
            let raw = late.raw.as_bytes();
            self.answer_error(late.client, raw, Fault::TimedOut, data, out);
        }
    }

    fn expire_sessions(&mut self, now: Micros) {
        if self.sessions_expire() {
            let idle = self.limits.session_idle_sec.saturating_mul(1_000_000);
            self.sessions.expire(now.saturating_sub(idle));
        }
    }

    /// Notes that a request of this client is over.
    fn settle(&mut self, client: ClientId) {
        if let Some(client) = self.clients.get_mut(client) {
            client.in_flight = client.in_flight.saturating_sub(1);
        }
    }

    fn leave_session(&mut self, session: Option<sessions::SessionId>) {
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(id)) {
            session.in_flight = session.in_flight.saturating_sub(1);
        }
    }

    fn worker_data(&self, id: WorkerId, epoch: u64) -> serde_json::Map<String, serde_json::Value> {
        let worker = self.worker(id);
        let mut data = serde_json::Map::new();
        data.insert("pool".into(), self.pools[worker.pool].name.as_str().into());
        data.insert("instance".into(), worker.instance.into());
        data.insert("epoch".into(), epoch.into());
        data
    }

    /// Sends an error to a client, if it is still there.
    pub(crate) fn answer_error(
        &mut self,
        client: ClientId,
        raw_id: &[u8],
        fault: Fault,
        data: serde_json::Map<String, serde_json::Value>,
        out: &mut impl Outlet,
    ) {
        self.counters.errors += 1;
        if !self.clients.contains(client) {
            return;
        }
        self.scratch.clear();
        crate::codes::write_error(&mut self.scratch, raw_id, fault, data);
        out.client(client, Line::Own(&self.scratch));
    }
}
