//! A transport that keeps alive what it needs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    BoxFuture, Capabilities, Completion, Drained, Inbox, Message, PublishOptions, Receipt,
    Subscribe, Subscription, Transport, TransportError, TransportStats,
};

/// A transport with the server or the directory that it works on, which goes when it does.
pub struct Hosted<H> {
    transport: Arc<dyn Transport>,
    _host: H,
}

impl<H> Hosted<H> {
    pub const fn new(transport: Arc<dyn Transport>, host: H) -> Self {
        Self {
            transport,
            _host: host,
        }
    }
}

impl<H> fmt::Debug for Hosted<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transport.fmt(f)
    }
}

impl<H: Send + Sync + 'static> Transport for Hosted<H> {
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
