//! The contract over Kafka.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::Pattern;
use agentbus_protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus_transport::remote::{Mailbox, MailboxSource};
use agentbus_transport::{
    BoxFuture, Capabilities, Completion, Confirmation, Drained, Inbox, Message, Ordering,
    PublishOptions, Receipt, Subscribe, Subscription, Transport, TransportError, TransportStats,
};

use crate::address::Address;
use crate::broker::NAME;
use crate::feed::FeedSource;
use crate::joining;
use crate::link::Link;
use crate::publish::{self, EVENTS};
use crate::removal;

/// What Kafka gives, with what a client can add to it without pretending.
const CAPABILITIES: Capabilities = Capabilities {
    name: NAME,
    ordering: Ordering::PerPublisher,
    durability: EVENTS,
    confirmation: Confirmation::Accepted,
    ack: true,
    redelivery: true,
    exact_attempts: false,
    replay: true,
    durable: true,
    durable_removal: true,
    durable_listing: false,
    lease: true,
    dead_letters: true,
    idempotency: false,
    queue_groups: true,
    shared_queues: false,
    mixed_groups: true,
    wildcards: true,
    priority: false,
    ttl: true,
    no_responder: true,
    backpressure: false,
    max_payload_bytes: Some(ENVELOPE_BYTES_MAX),
};

/// A connection to Kafka brokers.
#[derive(Debug)]
pub struct KafkaTransport(Arc<Link>);

impl KafkaTransport {
    /// What the transport can do.
    pub const CAPABILITIES: Capabilities = CAPABILITIES;

    /// Connects to `kafka://HOST:PORT`; the crate's documentation lists what else a URL can say.
    ///
    /// # Errors
    /// Fails when the URL is not understood, no broker can be reached, or the topics of the bus
    /// are missing and may not be made.
    pub async fn connect(url: &str) -> Result<Self, TransportError> {
        Link::open(Address::parse(url)?).await.map(Self)
    }
}

impl Transport for KafkaTransport {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn shared_topics(&self) -> &[Pattern] {
        &self.0.address.shared
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        match CAPABILITIES.check_publish(&options) {
            Ok(()) => publish::publish(&self.0, &message, &options),
            Err(error) => Completion::ready(Err(error)),
        }
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>> {
        Box::pin(async move {
            if self.0.is_closed() {
                return Err(TransportError::Closed);
            }
            CAPABILITIES.check(&request)?;
            if request.is_kept() {
                let source = joining::join(&self.0, request).await?;
                return Ok(Subscription::new(source));
            }
            let source = FeedSource::open(&self.0, request).await?;
            Ok(Subscription::new(source))
        })
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        if self.0.is_closed() {
            return Err(TransportError::Closed);
        }
        let mailbox = Arc::new(Mailbox::default());
        let (token, subject) = self.0.inbox.open(Arc::clone(&mailbox))?;
        let link = Arc::clone(&self.0);
        let close = move || link.inbox.close(&token);
        Ok(Inbox::new(subject, MailboxSource::new(mailbox, close)))
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
