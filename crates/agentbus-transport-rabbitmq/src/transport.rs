//! The contract over RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::Pattern;
use agentbus_protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus_transport::{
    BoxFuture, Capabilities, Completion, Confirmation, Drained, Durability, Inbox, Message,
    Ordering, PublishOptions, Receipt, Subscribe, Subscription, Transport, TransportError,
    TransportStats,
};

use crate::address::Address;
use crate::errors::NAME;
use crate::feed::Feed;
use crate::link::Link;
use crate::member::Member;
use crate::{publish, removal};

/// What RabbitMQ gives.
///
/// On its disk is what a durable name gets; it keeps no log of the rest.
///
/// Quorum queues have no priorities, so a bus cannot promise them, though groups have them. A
/// broker has no leases of its own: who holds a message keeps it for as long as its connection
/// lives.
const CAPABILITIES: Capabilities = Capabilities {
    name: NAME,
    ordering: Ordering::PerPublisher,
    durability: Durability::Disk,
    confirmation: Confirmation::Accepted,
    ack: true,
    redelivery: true,
    exact_attempts: false,
    replay: false,
    durable: true,
    durable_removal: true,
    durable_listing: false,
    lease: false,
    dead_letters: true,
    idempotency: false,
    queue_groups: true,
    shared_queues: true,
    mixed_groups: false,
    wildcards: true,
    priority: false,
    ttl: true,
    no_responder: true,
    backpressure: false,
    max_payload_bytes: Some(ENVELOPE_BYTES_MAX),
};

/// A connection to a RabbitMQ broker.
#[derive(Debug)]
pub struct RabbitTransport(Arc<Link>);

impl RabbitTransport {
    /// What the transport can do.
    pub const CAPABILITIES: Capabilities = CAPABILITIES;

    /// Connects to `amqp://HOST:PORT`; the crate's documentation lists what else a URL can say.
    ///
    /// # Errors
    /// Fails when the URL is not understood, the broker cannot be reached, or it refuses the
    /// credentials or the virtual host.
    pub async fn connect(url: &str) -> Result<Self, TransportError> {
        Link::open(&Address::parse(url)?).await.map(Self)
    }
}

impl Transport for RabbitTransport {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn shared_topics(&self) -> &[Pattern] {
        self.0.topics()
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        if let Err(error) = CAPABILITIES.check_publish(&options) {
            return Completion::ready(Err(error));
        }
        publish::publish(&self.0, &message, &options)
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>> {
        Box::pin(async move {
            if self.0.is_closed() {
                return Err(TransportError::Closed);
            }
            CAPABILITIES.check(&request)?;
            subscribe(&self.0, request).await
        })
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        if self.0.is_closed() {
            return Err(TransportError::Closed);
        }
        self.0.inboxes().open(Arc::clone(&self.0))
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        Box::pin(self.0.close(drain))
    }

    fn stats(&self) -> TransportStats {
        self.0.stats()
    }

    fn remove_durable<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(removal::remove(&self.0, name))
    }
}

/// Listens where that is enough, and joins a queue where messages must wait.
async fn subscribe(link: &Arc<Link>, request: Subscribe) -> Result<Subscription, TransportError> {
    if request.group.is_none() && !request.is_kept() {
        let source = Feed::open(link, request.pattern, request.capacity).await?;
        return Ok(Subscription::new(source));
    }
    let source = Member::open(link, request).await?;
    Ok(Subscription::new(source))
}
