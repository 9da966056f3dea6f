//! A transport that keeps alive what it needs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::SubjectSpace;

use crate::{
    BoxFuture, Capabilities, Completion, Drained, DurableInfo, Inbox, Message, PublishOptions,
    Receipt, Subscribe, Subscription, Transport, TransportError, TransportStats,
};

/// A transport with the server or the directory that it works on, which goes when it does.
pub struct Hosted<H> {
    transport: Arc<dyn Transport>,
    end: End,
    _host: H,
}

/// What a close of the one in front does to the transport behind it.
#[derive(Debug, Clone, Copy)]
enum End {
    Closes,
    /// Others use it too.
    Leaves,
}

impl<H> Hosted<H> {
    pub const fn new(transport: Arc<dyn Transport>, host: H) -> Self {
        Self {
            transport,
            end: End::Closes,
            _host: host,
        }
    }

    /// One of several that stand for the same transport, which none of them closes.
    pub const fn shared(transport: Arc<dyn Transport>, host: H) -> Self {
        Self {
            transport,
            end: End::Leaves,
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
        match self.end {
            End::Closes => self.transport.close(drain),
            End::Leaves => Box::pin(std::future::ready(Drained::default())),
        }
    }

    fn stats(&self) -> TransportStats {
        self.transport.stats()
    }

    fn subjects(&self) -> Option<SubjectSpace> {
        self.transport.subjects()
    }

    fn remove_durable<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), TransportError>> {
        self.transport.remove_durable(name)
    }

    fn durables(&self) -> BoxFuture<'_, Result<Vec<DurableInfo>, TransportError>> {
        self.transport.durables()
    }
}
