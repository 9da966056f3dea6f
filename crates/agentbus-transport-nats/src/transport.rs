//! The contract over core NATS.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::Pattern;
use agentbus_transport::{
    BoxFuture, Capabilities, Completion, Confirmation, Drained, Durability, Inbox, Message,
    Ordering, PublishOptions, Receipt, Subscribe, Subscription, Transport, TransportError,
    TransportStats,
};

use crate::address::{Address, Scheme, invalid};
use crate::feed::Feed;
use crate::limits;
use crate::link::Link;
use crate::mailbox::{Mailbox, MailboxSource};
use crate::publish;
use crate::source::CoreSource;

/// What core NATS gives: quick, at most once, kept nowhere.
const CAPABILITIES: Capabilities = Capabilities {
    name: "nats",
    ordering: Ordering::PerPublisher,
    durability: Durability::Memory,
    confirmation: Confirmation::Accepted,
    ack: true,
    redelivery: true,
    exact_attempts: true,
    replay: false,
    durable: false,
    durable_removal: false,
    durable_listing: false,
    lease: false,
    dead_letters: false,
    idempotency: false,
    queue_groups: true,
    shared_queues: false,
    mixed_groups: true,
    wildcards: true,
    priority: false,
    ttl: true,
    no_responder: true,
    backpressure: false,
    // What a server takes unless it is told otherwise.
    max_payload_bytes: Some(limits::PAYLOAD_BYTES),
};

/// A connection to a NATS server, or to a cluster of them.
#[derive(Debug)]
pub struct NatsTransport(Arc<Link>);

impl NatsTransport {
    /// What the transport can do. How large an envelope may be is up to the server; a connected
    /// transport knows it.
    pub const CAPABILITIES: Capabilities = CAPABILITIES;

    /// Connects to `nats://HOST:PORT`; the crate's documentation lists what else a URL can say.
    ///
    /// # Errors
    /// Fails when the URL is not understood, the server cannot be reached, or it refuses the
    /// credentials.
    pub async fn connect(url: &str) -> Result<Self, TransportError> {
        let address = Address::parse(url)?;
        if address.scheme != Scheme::Nats {
            return Err(invalid(Scheme::Nats, format!("`{url}` is not nats://")));
        }
        Self::open(&address).await
    }

    pub(crate) async fn open(address: &Address) -> Result<Self, TransportError> {
        Link::open(address).await.map(Self)
    }
}

impl Transport for NatsTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_payload_bytes: Some(self.0.client().max_payload()),
            ..CAPABILITIES
        }
    }

    fn shared_topics(&self) -> &[Pattern] {
        self.0.dialect().topics()
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
        open_inbox(&self.0)
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        Box::pin(self.0.close(drain))
    }

    fn stats(&self) -> TransportStats {
        self.0.stats()
    }
}

/// Subscribes to what is published from now on.
pub(crate) async fn subscribe(
    link: &Arc<Link>,
    request: Subscribe,
) -> Result<Subscription, TransportError> {
    let feed = Feed::open(link, request).await?;
    Ok(Subscription::new(CoreSource::new(feed)))
}

/// Opens an inbox under the one of the connection.
pub(crate) fn open_inbox(link: &Arc<Link>) -> Result<Inbox, TransportError> {
    if link.is_closed() {
        return Err(TransportError::Closed);
    }
    let mailbox = Arc::new(Mailbox::default());
    let (token, subject) = link.inbox().open(link.name(), Arc::clone(&mailbox))?;
    let link = Arc::clone(link);
    Ok(Inbox::new(
        subject,
        MailboxSource {
            link,
            token,
            mailbox,
        },
    ))
}
