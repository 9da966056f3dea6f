//! The inboxes of calls from our own process.

use agentbus_protocol::jsonrpc::Routing;

use super::Inner;
use super::post::{Inbox, Mouth};
use crate::core::{ClientId, Reach};

impl Inner {
    pub(crate) fn open_inbox(&mut self, client: ClientId) {
        self.mouths
            .place(client, Some(Mouth::Call(Inbox::default())));
    }

    pub(crate) fn inbox(&mut self, client: ClientId) -> Option<&mut Inbox> {
        self.mouths.inbox(client)
    }

    pub(crate) fn close_inbox(&mut self, client: ClientId) {
        self.with_post(|core, post| core.close_client(client, post));
        self.mouths.place(client, None);
    }

    /// Tells whether too much waits for every worker of a pool.
    pub(crate) fn is_full(&self, pool: &str) -> bool {
        let Some(pool) = self.core.pool_by_name(pool) else {
            return false;
        };
        let mut running = self.core.pools[pool]
            .workers
            .iter()
            .map(|id| self.core.worker(*id))
            .filter(|worker| worker.reach == Reach::Up)
            .peekable();
        running.peek().is_some() && running.all(|worker| worker.congested)
    }

    /// Routes the line of a call. Its fields are known, so it is not scanned.
    pub(crate) fn route_call(
        &mut self,
        now: u64,
        client: ClientId,
        routing: &Routing<'_>,
        line: &[u8],
    ) {
        let mut post = self.mouths.post();
        let worker = self.core.dispatch(now, client, routing, line, &mut post);
        match worker {
            // A worker that has work takes this line with those of the calls that come next. Its
            // task, which runs after them, writes them all at once; written one by one, each
            // would wake the worker for itself.
            Some(worker) if self.core.in_flight_of(worker) > 1 => post.finish_later(worker),
            _ => post.finish(),
        }
        self.wake_needed();
        if let Some(worker) = worker {
            self.weigh(worker);
        }
    }

    /// Lets every waiting call look again.
    pub(crate) fn wake_calls(&mut self) {
        for mouth in self.mouths.clients.iter_mut().flatten() {
            if let Mouth::Call(inbox) = mouth
                && let Some(waker) = inbox.waker.take()
            {
                waker.wake();
            }
        }
    }
}
