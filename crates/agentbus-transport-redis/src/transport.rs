//! The contract over Redis.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::Pattern;
use agentbus_protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus_transport::{
    BoxFuture, Capabilities, Completion, Confirmation, Drained, Durability, DurableInfo, Inbox,
    Message, Ordering, PublishOptions, Receipt, Start, Subscribe, Subscription, Transport,
    TransportError, TransportStats,
};

use crate::address::Address;
use crate::commands::NAME;
use crate::feed::{Feed, FeedSource};
use crate::link::Link;
use crate::member::Member;
use crate::{listing, publish, removal};

/// What Redis gives. A server that writes no file keeps messages in memory only, and says so when
/// it is asked.
const CAPABILITIES: Capabilities = Capabilities {
    name: NAME,
    ordering: Ordering::PerPublisher,
    durability: Durability::Os,
    confirmation: Confirmation::Accepted,
    ack: true,
    redelivery: true,
    exact_attempts: true,
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
    max_payload_bytes: Some(ENVELOPE_BYTES_MAX),
};

/// A connection to a Redis server.
#[derive(Debug)]
pub struct RedisTransport(Arc<Link>);

impl RedisTransport {
    /// What the transport can do on a server with a write-ahead file. Where a message is once its
    /// publish was accepted depends on the server's settings; a connected transport knows them.
    pub const CAPABILITIES: Capabilities = CAPABILITIES;

    /// Connects to `redis://HOST:PORT`; the crate's documentation lists what else a URL can say.
    ///
    /// # Errors
    /// Fails when the URL is not understood, the server cannot be reached, it refuses the
    /// credentials, or it is too old or a cluster.
    pub async fn connect(url: &str) -> Result<Self, TransportError> {
        Link::open(&Address::parse(url)?).await.map(Self)
    }
}

impl Transport for RedisTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability: self.0.desk().durability,
            ..CAPABILITIES
        }
    }

    fn shared_topics(&self) -> &[Pattern] {
        &self.0.desk().settings.topics
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
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
        self.0.inbox().calls().open(Arc::clone(&self.0))
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

    fn durables(&self) -> BoxFuture<'_, Result<Vec<DurableInfo>, TransportError>> {
        Box::pin(listing::list(&self.0))
    }
}

/// Listens on a channel where that is enough, and joins a queue where messages must wait.
async fn subscribe(link: &Arc<Link>, request: Subscribe) -> Result<Subscription, TransportError> {
    let listens = request.durable.is_none()
        && request.group.is_none()
        && request.start == Start::New
        && request.lease.is_none()
        && request.max_attempts.is_none();
    if listens {
        let feed = Feed::open(link, request.pattern, request.capacity).await?;
        return Ok(Subscription::new(FeedSource(feed)));
    }
    let source = Member::open(link, request).await?;
    Ok(Subscription::new(source))
}
