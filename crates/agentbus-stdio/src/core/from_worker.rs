//! A line from a worker: an answer, a request of its own, or a notification.

use agentbus_protocol::jsonrpc::{Id, MessageKind, Routing, ScanError, scan};
use serde_json::Map;
use smol_str::SmolStr;

use super::desk::Asked;
use super::{ClientId, ClientKind, Core, Line, Micros, Outlet, WorkerId};
use crate::codes::{Fault, write_error};
use crate::limits::WORKER_REQUESTS;

impl Core {
    /// Routes one line, without its newline.
    ///
    /// # Errors
    ///
    /// The line is no JSON object: nothing the worker says can be trusted any more.
    pub(crate) fn worker_says(
        &mut self,
        now: Micros,
        worker: WorkerId,
        line: &[u8],
        out: &mut impl Outlet,
    ) -> Result<(), ScanError> {
        if matches!(line, b"" | b"\r") {
            return Ok(());
        }
        let routing = scan(line)?;
        self.worker_mut(worker).last_used = now;
        let reached = match (routing.kind(), &routing.id) {
            (MessageKind::Response, Some(id)) => self.answer(now, worker, id, line, out),
            (MessageKind::Request, Some(id)) => self.ask(worker, id, &routing, line, out),
            (MessageKind::Notification, _) => self.notify(worker, &routing, line, out),
            _ => false,
        };
        if !reached {
            self.counters.dropped += 1;
            self.worker_mut(worker).counters.dropped += 1;
            return Ok(());
        }
        self.counters.messages_out += 1;
        self.counters.bytes_out += line.len() as u64;
        let counters = &mut self.worker_mut(worker).counters;
        counters.messages_out += 1;
        counters.bytes_out += line.len() as u64;
        Ok(())
    }

    fn answer(
        &mut self,
        now: Micros,
        worker: WorkerId,
        id: &Id<'_>,
        line: &[u8],
        out: &mut impl Outlet,
    ) -> bool {
        let at = self.worker_mut(worker);
        let Some((key, pending)) = at.desk.take(&id.text) else {
            return false;
        };
        at.latency.record(now.saturating_sub(pending.since));
        self.leave_session(pending.session);
        let Some(client) = pending.client else {
            return false;
        };
        self.settle(client);
        let Some(asker) = self.clients.get(client) else {
            return false;
        };
        if asker.kind == ClientKind::Call {
            self.worker_mut(worker).calls.retain(|call| *call != client);
        }
        if pending.is_answered_by(id) {
            out.client(client, Line::Same(line));
        } else {
            let raw = pending.raw_id(&key);
            let (before, after) = (&line[..id.span.start], &line[id.span.end..]);
            out.client(client, Line::Spliced(before, raw.as_bytes(), after));
        }
        true
    }

    /// Brings a worker's request to every client of its session, or says why it cannot.
    fn ask(
        &mut self,
        worker: WorkerId,
        id: &Id<'_>,
        routing: &Routing<'_>,
        line: &[u8],
        out: &mut impl Outlet,
    ) -> bool {
        let clients = self.audience(worker, routing);
        let fault = match clients.is_empty() {
            true if routing.session_id.is_none() => Some(Fault::SessionRequired),
            true => Some(Fault::NoClient),
            false if self.worker(worker).desk.asked.len() >= WORKER_REQUESTS => {
                Some(Fault::QueueFull)
            }
            false => None,
        };
        let raw = &line[id.span.clone()];
        if let Some(fault) = fault {
            self.scratch.clear();
            write_error(&mut self.scratch, raw, fault, Map::new());
            out.worker(worker, Line::Own(&self.scratch));
            return false;
        }
        for client in &clients {
            out.client(*client, Line::Same(line));
        }
        let raw = SmolStr::new(String::from_utf8_lossy(raw));
        let asked = Asked { clients, raw };
        let key = SmolStr::new(&id.text);
        self.worker_mut(worker).desk.asked.insert(key, asked);
        true
    }

    fn notify(
        &mut self,
        worker: WorkerId,
        routing: &Routing<'_>,
        line: &[u8],
        out: &mut impl Outlet,
    ) -> bool {
        let clients = self.audience(worker, routing);
        for client in &clients {
            out.client(*client, Line::Same(line));
        }
        !clients.is_empty()
    }

    /// Returns those who hear what a worker says in a session.
    ///
    /// Every connection that used the session, and of the calls from our own process the oldest
    /// that is under way: a session has one turn at a time, so what is said belongs to that. A
    /// worker that names no session is heard by its one call, if it has just one.
    fn audience(&mut self, worker: WorkerId, routing: &Routing<'_>) -> Vec<ClientId> {
        let Some(name) = routing.session_id.as_deref() else {
            return match self.worker(worker).calls.as_slice() {
                [call] => vec![*call],
                _ => Vec::new(),
            };
        };
        let Self {
            sessions, clients, ..
        } = self;
        let session = sessions.find(name).and_then(|id| sessions.get_mut(id));
        let Some(session) = session.filter(|session| session.worker == worker) else {
            return Vec::new();
        };
        let mut call_found = false;
        let hears = |id: &ClientId| match clients.get(*id).map(|client| client.kind) {
            None => false,
            Some(ClientKind::Call) => !std::mem::replace(&mut call_found, true),
            Some(_) => true,
        };
        session.clients.iter().copied().filter(hears).collect()
    }
}
