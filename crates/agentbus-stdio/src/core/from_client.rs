//! A line from a client: to a worker, to the bus itself, or back with an error.

use agentbus_protocol::jsonrpc::{Id, MessageKind, Routing, ScanError, scan};
use serde_json::Map;

use super::desk::Placed;
use super::pick::{Refusal, bare};
use super::sessions::SessionId;
use super::{ClientId, ClientKind, Core, Deadline, Line, Micros, Outlet, Reach, WorkerId};
use crate::codes::Fault;
use crate::limits::{DEADLINES_SWEPT, SESSION_NAME_BYTES};

/// Methods that begin like this are for the bus.
const RESERVED: &str = "stdio_bus/";

impl Core {
    /// Routes one line, without its newline. Returns the worker that it went to.
    ///
    /// # Errors
    ///
    /// The line is no JSON object; the client has been told.
    pub(crate) fn client_says(
        &mut self,
        now: Micros,
        client: ClientId,
        line: &[u8],
        out: &mut impl Outlet,
    ) -> Result<Option<WorkerId>, ScanError> {
        // A line of nothing but a carriage return is an empty line with the other ending.
        if matches!(line, b"" | b"\r") {
            return Ok(None);
        }
        self.counters.messages_in += 1;
        self.counters.bytes_in += line.len() as u64;
        match scan(line) {
            Ok(routing) => Ok(self.dispatch(now, client, &routing, line, out)),
            Err(error) => {
                tracing::debug!(%error, "a client sent a line that cannot be read");
                self.answer_error(client, b"null", Fault::Parse, Map::new(), out);
                Err(error)
            }
        }
    }

    /// Brings a further line of a call to the worker that works on it, if one does.
    pub(crate) fn follow_up(&mut self, call: ClientId, line: &[u8], out: &mut impl Outlet) {
        let busy = |id: &WorkerId| self.worker(*id).calls.contains(&call);
        if let Some(worker) = self.worker_ids().find(busy) {
            out.worker(worker, Line::Same(line));
        }
    }

    /// Routes a line whose fields are known.
    pub(crate) fn dispatch(
        &mut self,
        now: Micros,
        client: ClientId,
        routing: &Routing<'_>,
        line: &[u8],
        out: &mut impl Outlet,
    ) -> Option<WorkerId> {
        if routing.kind() == MessageKind::Response {
            return self.forward_answer(now, client, routing, line, out);
        }
        if routing
            .method
            .as_deref()
            .is_some_and(|method| method.starts_with(RESERVED))
        {
            self.serve_bus_method(client, routing, line, out);
            return None;
        }
        self.audit(client, routing, line);
        match self.forward(now, client, routing, line, out) {
            Ok(worker) => Some(worker),
            Err((fault, data)) => {
                match routing.id_span() {
                    Some(span) => self.answer_error(client, &line[span], fault, data, out),
                    None => self.counters.dropped += 1,
                }
                None
            }
        }
    }

    fn forward(
        &mut self,
        now: Micros,
        client: ClientId,
        routing: &Routing<'_>,
        line: &[u8],
        out: &mut impl Outlet,
    ) -> Result<WorkerId, Refusal> {
        if self.stopping {
            return Err(bare(Fault::ShuttingDown));
        }
        let asks = routing.id.as_ref();
        if asks.is_some() {
            self.may_ask(client)?;
        }
        let (worker, session) = self.route(now, client, routing)?;
        let at = self.worker_mut(worker);
        at.last_used = now;
        at.counters.messages_in += 1;
        at.counters.bytes_in += line.len() as u64;
        match asks {
            Some(id) => self.forward_request(now, client, worker, session, id, line, out),
            None => out.worker(worker, Line::Same(line)),
        }
        Ok(worker)
    }

    fn may_ask(&self, client: ClientId) -> Result<(), Refusal> {
        let asked = self
            .clients
            .get(client)
            .map_or(0, |client| u64::from(client.in_flight));
        if asked < self.limits.max_pending {
            return Ok(());
        }
        let data = [("max_pending".to_owned(), self.limits.max_pending.into())];
        Err((Fault::TooManyPending, Map::from_iter(data)))
    }

    /// Finds the worker of the message's session, or chooses one and opens the session there.
    fn route(
        &mut self,
        now: Micros,
        client: ClientId,
        routing: &Routing<'_>,
    ) -> Result<(WorkerId, Option<SessionId>), Refusal> {
        let Some(name) = routing.session_id.as_deref() else {
            let pool = self.pool_for(routing)?;
            return Ok((self.pick(pool)?, None));
        };
        let id = match self.live_session(name) {
            Some(id) => id,
            None => self.open_session(now, name, routing)?,
        };
        let Self {
            sessions, clients, ..
        } = self;
        let Some(session) = sessions.get_mut(id) else {
            return Err(bare(Fault::NoWorker));
        };
        session.last_used = now;
        session.join(client, |other| clients.contains(other));
        if let Some(client) = clients.get_mut(client)
            && client.kind == ClientKind::Call
        {
            client.session = Some(id);
        }
        Ok((session.worker, Some(id)))
    }

    /// Returns the session if its worker can still be reached, and wakes that if it sleeps.
    fn live_session(&mut self, name: &str) -> Option<SessionId> {
        let id = self.sessions.find(name)?;
        let worker = self.sessions.get(id)?.worker;
        match self.worker(worker).reach {
            Reach::Up | Reach::Starting => Some(id),
            Reach::Asleep => {
                self.worker_mut(worker).reach = Reach::Starting;
                self.woken.push(worker);
                Some(id)
            }
            Reach::Down | Reach::GivenUp => None,
        }
    }

    fn open_session(
        &mut self,
        now: Micros,
        name: &str,
        routing: &Routing<'_>,
    ) -> Result<SessionId, Refusal> {
        let pool = self.pool_for(routing)?;
        if name.len() > SESSION_NAME_BYTES {
            return Err(bare(Fault::SessionNameTooLong));
        }
        let full = |core: &Self| core.sessions.len() as u64 >= core.limits.max_sessions;
        if full(self) {
            self.expire_sessions(now);
        }
        if full(self) {
            let data = [("max_sessions".to_owned(), self.limits.max_sessions.into())];
            return Err((Fault::TooManySessions, Map::from_iter(data)));
        }
        let worker = self.pick(pool)?;
        Ok(self.sessions.open(name, worker, now))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a fact about one request"
    )]
    fn forward_request(
        &mut self,
        now: Micros,
        client: ClientId,
        worker: WorkerId,
        session: Option<SessionId>,
        id: &Id<'_>,
        line: &[u8],
        out: &mut impl Outlet,
    ) {
        let asker = self.clients.get_mut(client);
        let is_call = asker
            .as_ref()
            .is_some_and(|asker| asker.kind == ClientKind::Call);
        if let Some(asker) = asker {
            asker.in_flight += 1;
        }
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(id)) {
            session.in_flight += 1;
        }
        let at = self.worker_mut(worker);
        at.requests += 1;
        if is_call {
            at.calls.push(client);
        }
        let span = &id.span;
        let placed = at.desk.put(id, line, client, session, now);
        match &placed.replaced {
            None => out.worker(worker, Line::Same(line)),
            Some(shown) => out.worker(
                worker,
                Line::Spliced(&line[..span.start], shown.as_bytes(), &line[span.end..]),
            ),
        }
        self.limit_time(now, worker, placed);
    }

    fn limit_time(&mut self, now: Micros, worker: WorkerId, placed: Placed) {
        let time = self.limits.request_timeout_sec.saturating_mul(1_000_000);
        if time == 0 {
            return;
        }
        if self.deadlines.len() >= self.deadlines_swept_at {
            self.sweep_deadlines();
        }
        self.deadlines.push_back(Deadline {
            due: now.saturating_add(time),
            worker,
            key: placed.key,
            serial: placed.serial,
        });
    }

    /// Drops the deadlines of requests that were answered. Without it a busy bus would remember
    /// every request for as long as it might have taken.
    fn sweep_deadlines(&mut self) {
        let Self {
            deadlines, workers, ..
        } = self;
        deadlines.retain(|deadline| {
            let worker = &workers[deadline.worker.0 as usize];
            worker.desk.awaits(&deadline.key, deadline.serial)
        });
        self.deadlines_swept_at = DEADLINES_SWEPT.max(2 * self.deadlines.len());
    }

    /// Brings a client's answer to the worker that asked. Only the first answer counts.
    fn forward_answer(
        &mut self,
        now: Micros,
        client: ClientId,
        routing: &Routing<'_>,
        line: &[u8],
        out: &mut impl Outlet,
    ) -> Option<WorkerId> {
        let text = routing.id.as_ref().map_or("", |id| id.text.as_ref());
        let asked_client = |id: &WorkerId| {
            let asked = self.worker(*id).desk.asked.get(text);
            asked.is_some_and(|asked| asked.clients.contains(&client))
        };
        let of_session = routing
            .session_id
            .as_deref()
            .and_then(|name| self.sessions.find(name))
            .and_then(|id| self.sessions.get(id))
            .map(|session| session.worker);
        let worker = match of_session {
            Some(worker) => Some(worker).filter(asked_client),
            None => {
                let mut asking = self.worker_ids().filter(asked_client);
                // Two workers that ask with one id cannot be told apart without a session.
                asking.next().filter(|_| asking.next().is_none())
            }
        };
        let Some(worker) = worker else {
            self.counters.dropped += 1;
            return None;
        };
        let at = self.worker_mut(worker);
        at.desk.asked.remove(text);
        at.last_used = now;
        at.counters.messages_in += 1;
        at.counters.bytes_in += line.len() as u64;
        out.worker(worker, Line::Same(line));
        Some(worker)
    }
}
