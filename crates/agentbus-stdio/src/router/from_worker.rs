//! From a worker to its clients.

use agentbus_protocol::jsonrpc::{Id, MessageKind, Routing, scan};

use super::{Garbage, Ports, Router, WorkerId};

impl Router {
    /// Takes a line of a worker.
    ///
    /// # Errors
    /// Fails when the line is no JSON object. The worker has to be ended then.
    pub fn from_worker(
        &mut self,
        worker: WorkerId,
        line: &[u8],
        ports: &mut impl Ports,
    ) -> Result<(), Garbage> {
        let routing = scan(line).map_err(|error| {
            self.counts.malformed += 1;
            Garbage(error)
        })?;
        match (routing.kind(), &routing.id) {
            (MessageKind::Response, Some(id)) => self.deliver(worker, line, id, ports),
            (MessageKind::Request, Some(id)) => self.ask(worker, line, &routing, id, ports),
            (_, None) => self.tell(line, &routing, ports),
            // An id, but neither a method nor a result: it answers nothing and asks nothing.
            (_, Some(_)) => self.counts.undeliverable += 1,
        }
        Ok(())
    }

    /// Delivers an answer to the client that asked, under the client's own id.
    fn deliver(&mut self, worker: WorkerId, line: &[u8], id: &Id<'_>, ports: &mut impl Ports) {
        let answered = self.workers[worker.0].pending.remove(&*id.text);
        let waiting = answered.and_then(|request| Some((request.client?, request.id)));
        let Some((client, own)) = waiting else {
            self.counts.undeliverable += 1;
            return;
        };
        if let Some(client) = self.clients.get_mut(&client) {
            client.pending = client.pending.saturating_sub(1);
        }
        self.counts.messages_out += 1;
        if line[id.span.clone()] == *own {
            return ports.to_client(client, [line, b"", b""]);
        }
        let (head, tail) = (&line[..id.span.start], &line[id.span.end..]);
        ports.to_client(client, [head, &own, tail]);
    }

    /// Passes a worker's own request to every client of its session.
    fn ask(
        &mut self,
        worker: WorkerId,
        line: &[u8],
        routing: &Routing<'_>,
        id: &Id<'_>,
        ports: &mut impl Ports,
    ) {
        let session = routing.session_id.as_deref().unwrap_or_default();
        for client in self.sessions.clients_of(session) {
            if let Some(client) = self.clients.get_mut(client) {
                client.asked.insert(id.text.as_ref().into(), worker);
            }
        }
        self.tell(line, routing, ports);
    }

    /// Passes a message to every client of its session.
    fn tell(&mut self, line: &[u8], routing: &Routing<'_>, ports: &mut impl Ports) {
        let session = routing.session_id.as_deref().unwrap_or_default();
        let clients = self.sessions.clients_of(session);
        if clients.is_empty() {
            self.counts.undeliverable += 1;
        }
        self.counts.messages_out += clients.len() as u64;
        for client in clients {
            ports.to_client(*client, [line, b"", b""]);
        }
    }
}
