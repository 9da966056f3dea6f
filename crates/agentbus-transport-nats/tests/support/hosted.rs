//! A transport that keeps its server alive.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::{
    BoxFuture, Capabilities, Completion, Drained, Inbox, Message, PublishOptions, Receipt,
    Subscribe, Subscription, Transport, TransportError, TransportStats,
};

use super::Server;

/// A transport and the server that it speaks to.
pub(crate) struct Hosted {
    transport: Arc<dyn Transport>,
    _server: Server,
}

impl Hosted {
    pub(crate) fn new(transport: Arc<dyn Transport>, server: Server) -> Self {
        Self {
            transport,
            _server: server,
        }
    }
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transport.fmt(f)
    }
}

impl Transport for Hosted {
    fn capabilities(&self) -> Capabilities {
        self.transport.capabilities()
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        self.transport.publish(message, options)
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>> {
        self.transport.subscribe(request)
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        self.transport.open_inbox()
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        self.transport.close(drain)
    }

    fn stats(&self) -> TransportStats {
        self.transport.stats()
    }
}
