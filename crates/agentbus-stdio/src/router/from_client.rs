//! From a client to a worker.

use std::time::Instant;

use agentbus_protocol::jsonrpc::{MessageKind, Routing, scan};
use serde_json::json;

use super::{Balance, ClientId, Pending, Pool, Ports, Router, WorkerId};
use crate::audit;
use crate::code::Code;

/// The methods that the bus answers itself.
const RESERVED: &str = "stdio_bus/";

/// Why a message cannot go to a worker.
enum Refusal {
    Because(Code),
    /// The pools that could have been named.
    Pool(Code),
}

impl Router {
    /// Takes a message of a client.
    pub fn from_client(
        &mut self,
        client: ClientId,
        line: &[u8],
        now: Instant,
        ports: &mut impl Ports,
    ) {
        self.counts.messages_in += 1;
        let Ok(routing) = scan(line) else {
            self.counts.malformed += 1;
            return Self::unreadable(client, -32700, "Parse error", ports);
        };
        audit::note(line);
        if routing
            .method
            .as_deref()
            .is_some_and(|method| method.starts_with(RESERVED))
        {
            return self.answer_own(client, line, &routing, ports);
        }
        if routing.kind() == MessageKind::Response {
            return self.forward_response(client, line, &routing, ports);
        }
        let id = routing.id_span().map(|span| &line[span]);
        match self.choose(client, &routing, id.is_some(), now) {
            Ok(worker) => self.forward(client, worker, line, &routing, now, ports),
            Err(refusal) => self.turn_away(client, id, &refusal, ports),
        }
    }

    fn turn_away(
        &mut self,
        client: ClientId,
        id: Option<&[u8]>,
        refusal: &Refusal,
        ports: &mut impl Ports,
    ) {
        let Some(id) = id else {
            self.counts.dropped += 1;
            return;
        };
        let (code, details) = match refusal {
            Refusal::Because(code) => (*code, None),
            Refusal::Pool(code) => {
                let names: Vec<_> = self.pools.iter().map(|pool| pool.id.as_str()).collect();
                (*code, Some(("pools", json!(names))))
            }
        };
        self.refuse(client, id, code, details, ports);
    }

    /// Chooses the worker and notes the session.
    fn choose(
        &mut self,
        client: ClientId,
        routing: &Routing<'_>,
        is_request: bool,
        now: Instant,
    ) -> Result<WorkerId, Refusal> {
        if self.draining {
            return Err(Refusal::Because(Code::ShuttingDown));
        }
        let pending = self.clients.get(&client).map_or(0, |client| client.pending);
        if is_request && pending >= self.limits.max_pending {
            return Err(Refusal::Because(Code::TooManyPending));
        }
        let session = routing.session_id.as_deref();
        let bound = session.and_then(|session| self.sessions.worker_of(session));
        let worker = match bound {
            Some(worker) => worker,
            None => {
                let pool = self.pool(routing.pool.as_deref(), routing.agent_id.as_deref())?;
                if session.is_some() && !self.sessions.has_room(now) {
                    return Err(Refusal::Because(Code::TooManySessions));
                }
                self.next_worker(pool)
                    .ok_or(Refusal::Because(Code::NoWorker))?
            }
        };
        if let Some(session) = session {
            self.sessions.used(session, client, worker, now);
        }
        Ok(worker)
    }

    /// The pool that is named, or the one that has the agent's name, or the only one. An agent
    /// that is no pool may well be one behind a worker.
    fn pool(&self, name: Option<&str>, agent: Option<&str>) -> Result<usize, Refusal> {
        let find = |name: &str| self.pools.iter().position(|pool| pool.id == name);
        if let Some(name) = name {
            return find(name).ok_or(Refusal::Pool(Code::PoolUnknown));
        }
        match agent.and_then(find) {
            Some(pool) => Ok(pool),
            None if self.pools.len() == 1 => Ok(0),
            None => Err(Refusal::Pool(Code::PoolMissing)),
        }
    }

    fn next_worker(&mut self, pool: usize) -> Option<WorkerId> {
        let workers = &self.workers;
        let Pool {
            balance,
            workers: members,
            cursor,
            ..
        } = &mut self.pools[pool];
        let count = members.len();
        let turns = (0..count).map(|step| (*cursor + step) % count);
        let mut running = turns.filter(|at| workers[members[*at].0].running);
        let at = match balance {
            Balance::RoundRobin => running.next(),
            Balance::LeastLoaded => running.min_by_key(|at| workers[members[*at].0].pending.len()),
        }?;
        *cursor = (at + 1) % count;
        Some(members[at])
    }

    /// Sends a message to a worker and remembers it if an answer is owed.
    fn forward(
        &mut self,
        client: ClientId,
        worker: WorkerId,
        line: &[u8],
        routing: &Routing<'_>,
        now: Instant,
        ports: &mut impl Ports,
    ) {
        let Some(id) = &routing.id else {
            return ports.to_worker(worker, [line, b"", b""]);
        };
        let request = Pending {
            client: Some(client),
            id: line[id.span.clone()].into(),
            since: now,
        };
        if let Some(waiting) = self.clients.get_mut(&client) {
            waiting.pending += 1;
        }
        let known = &mut self.workers[worker.0];
        if !known.pending.contains_key(&*id.text) {
            known.pending.insert(id.text.as_ref().into(), request);
            return ports.to_worker(worker, [line, b"", b""]);
        }
        let own = known.own_id();
        let quoted = format!("\"{own}\"");
        known.pending.insert(own.into(), request);
        let (head, tail) = (&line[..id.span.start], &line[id.span.end..]);
        ports.to_worker(worker, [head, quoted.as_bytes(), tail]);
    }

    /// Sends an answer to the worker that asked.
    fn forward_response(
        &mut self,
        client: ClientId,
        line: &[u8],
        routing: &Routing<'_>,
        ports: &mut impl Ports,
    ) {
        let asked = routing.id.as_ref().and_then(|id| {
            let client = self.clients.get_mut(&client)?;
            client.asked.remove(&*id.text)
        });
        let session = routing.session_id.as_deref();
        let bound = session.and_then(|session| self.sessions.worker_of(session));
        match bound.or(asked) {
            Some(worker) => ports.to_worker(worker, [line, b"", b""]),
            None => self.counts.dropped += 1,
        }
    }
}

impl super::Worker {
    /// An id that no request at this worker has.
    fn own_id(&mut self) -> String {
        loop {
            self.own_ids += 1;
            let id = format!("agentbus-{}", self.own_ids);
            if !self.pending.contains_key(id.as_str()) {
                return id;
            }
        }
    }
}
