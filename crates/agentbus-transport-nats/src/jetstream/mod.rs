//! The contract over JetStream: events are kept, calls are not.
//!
//! A stream keeps the subjects of events and dead letters. Requests, replies and cancellations
//! travel over core NATS on the same connection, because a stream that kept a request would
//! answer it itself, with its confirmation.
//!
//! Every subscription to kept subjects is a pull consumer: what a subscriber has no room for stays
//! in the stream, so nobody is slowed down and nothing is lost. A subscriber who would rather lose
//! the oldest listens live, over core NATS.

mod ack;
mod consumer;
mod history;
mod leaving;
mod listing;
mod member;
mod names;
mod publish;
mod puller;
mod removal;
mod settle;
mod store;

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::{
    BoxFuture, Capabilities, Capability, Completion, Confirmation, Drained, Durability,
    DurableInfo, Inbox, Message, Ordering, Overflow, PublishOptions, Receipt, Start, Subscribe,
    Subscription, Transport, TransportError, TransportStats,
};

use crate::address::{Address, Scheme, StreamSettings, invalid};
use crate::link::Link;
use crate::{limits, publish as core, transport};
use store::Store;

/// What JetStream gives.
const CAPABILITIES: Capabilities = Capabilities {
    name: "jetstream",
    ordering: Ordering::PerPublisher,
    durability: Durability::Os,
    confirmation: Confirmation::Accepted,
    ack: true,
    redelivery: true,
    exact_attempts: false,
    replay: true,
    durable: true,
    durable_removal: true,
    durable_listing: true,
    lease: true,
    dead_letters: true,
    idempotency: true,
    queue_groups: true,
    shared_queues: true,
    mixed_groups: false,
    wildcards: true,
    priority: false,
    ttl: true,
    no_responder: true,
    backpressure: false,
    max_payload_bytes: Some(limits::PAYLOAD_BYTES),
};

/// A connection to a NATS server with JetStream, and the stream that keeps its events.
#[derive(Debug)]
pub struct JetStreamTransport {
    link: Arc<Link>,
    store: Arc<Store>,
}

impl JetStreamTransport {
    /// What the transport can do with a stream on one server's disk. Where a message is once its
    /// publish was accepted, and how large it may be, depends on the server; a connected transport
    /// knows it.
    pub const CAPABILITIES: Capabilities = CAPABILITIES;

    /// Connects to `jetstream://HOST:PORT` and makes the stream where there is none of its name;
    /// the crate's documentation lists what else a URL can say.
    ///
    /// # Errors
    /// Fails when the URL is not understood, the server cannot be reached, it refuses the
    /// credentials, or it has no JetStream.
    pub async fn connect(url: &str) -> Result<Self, TransportError> {
        let address = Address::parse(url)?;
        if address.scheme != Scheme::JetStream {
            return Err(invalid(
                Scheme::JetStream,
                format!("`{url}` is not jetstream://"),
            ));
        }
        Self::open(&address).await
    }

    pub(crate) async fn open(address: &Address) -> Result<Self, TransportError> {
        let link = Link::open(address).await?;
        let store = Store::open(&link, address).await?;
        Ok(Self { link, store })
    }

    async fn start(&self, request: Subscribe) -> Result<Subscription, TransportError> {
        if self.link.is_closed() {
            return Err(TransportError::Closed);
        }
        CAPABILITIES.check(&request)?;
        let asks_for_the_stream = request.durable.is_some()
            || request.start != Start::New
            || request.lease.is_some()
            || request.max_attempts.is_some();
        if self.store.keeps(request.pattern.as_str()) {
            let lossy = request.overflow == Overflow::DropOldest && request.group.is_none();
            if asks_for_the_stream || !lossy {
                return member::open(&self.store, request).await;
            }
        } else if asks_for_the_stream {
            return Err(self.store.does_not_keep(request.pattern.as_str()));
        }
        transport::subscribe(&self.link, request).await
    }
}

impl Transport for JetStreamTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability: self.store.durability(),
            max_payload_bytes: Some(self.link.client().max_payload()),
            ..CAPABILITIES
        }
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        let subject = message.subject.as_str();
        if self.store.keeps(subject) {
            publish::publish(&self.store, &message, &options)
        } else if core::is_call(subject) && options.idempotency_key.is_none() {
            core::publish(&self.link, &message, &options)
        } else {
            // Whoever asked for a stream would wait in vain for what it does not keep.
            Completion::ready(Err(self.store.does_not_keep(subject)))
        }
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>> {
        Box::pin(self.start(request))
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        transport::open_inbox(&self.link)
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        Box::pin(self.link.close(drain))
    }

    fn stats(&self) -> TransportStats {
        self.link.stats()
    }

    fn remove_durable<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            if self.link.is_closed() {
                return Err(TransportError::Closed);
            }
            removal::remove(&self.store, name).await
        })
    }

    fn durables(&self) -> BoxFuture<'_, Result<Vec<DurableInfo>, TransportError>> {
        Box::pin(async move {
            if self.link.is_closed() {
                return Err(TransportError::Closed);
            }
            listing::list(&self.store).await
        })
    }
}

/// Whether somebody waits for the answer to a message: a call is for now, whatever keeps it.
pub(crate) fn is_asked(message: &Message) -> bool {
    let reply_to = agentbus_protocol::Subject::from_text(&message.envelope.reply_to);
    reply_to.is_ok_and(|reply_to| reply_to.is_inbox())
}

/// Where an acknowledged message is.
///
/// A server acknowledges what it has handed to its operating system; it syncs every two minutes
/// unless it is told otherwise, and a client cannot ask which. So one replica on a file is `Os`,
/// several are `Replicated`, and `Disk` is what an operator says who has set `sync_interval`.
pub(crate) fn durability(
    settings: &StreamSettings,
    in_memory: bool,
    replicas: usize,
) -> Durability {
    match settings.durability {
        Some(level) => level,
        None if replicas > 1 => Durability::Replicated,
        None if in_memory => Durability::Memory,
        None => Durability::Os,
    }
}

/// The error for a group whose members listen on overlapping patterns.
pub(crate) const fn mixed_group() -> TransportError {
    TransportError::Unsupported {
        transport: CAPABILITIES.name,
        capability: Capability::MixedGroups,
    }
}
