//! The in-memory broker.
//!
//! It moves messages by reference count inside one process and never writes them down.
//! Every subscription has one bounded queue, every queue group shares one, and a publish puts the
//! message straight into the queues of all receivers: there is no task in between, no polling and
//! no timer, except for redeliveries that were asked for with a delay.
//!
//! What would surprise: a group is one queue from which its members pull, not a round robin over
//! their queues. A member that takes no more than it can start therefore holds nothing that an idle
//! one could handle, and what waits in the queue is not lost when a member leaves.

mod alarm;
mod confirm;
mod inbox;
mod mailbox;
mod publish;
mod queue;
mod registry;
mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use agentbus_protocol::Subject;
use rand::RngExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stats::TransportStats;
use crate::{
    BoxFuture, Capabilities, Completion, Confirmation, Drained, Durability, Inbox, Message,
    Ordering as MessageOrdering, PublishOptions, Receipt, Subscribe, Subscription, Transport,
    TransportError, limits,
};
use alarm::Alarm;
pub(crate) use inbox::InboxSource;
use inbox::Inboxes;
use queue::{Queue, QueueOptions};
use registry::Registry;
use source::MemorySource;

const NAME: &str = "memory";

const CAPABILITIES: Capabilities = Capabilities {
    name: NAME,
    ordering: MessageOrdering::PerPublisher,
    durability: Durability::Memory,
    confirmation: Confirmation::Handled,
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
    shared_queues: true,
    mixed_groups: true,
    wildcards: true,
    priority: true,
    ttl: true,
    no_responder: true,
    backpressure: true,
    max_payload_bytes: None,
};

/// A broker inside this process. Clones are handles to the same broker.
#[derive(Debug, Clone, Default)]
pub struct MemoryTransport(Arc<Broker>);

/// What the handles share.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    registry: Registry,
    /// Once set, no publish is taken any more.
    closed: AtomicBool,
    /// What went to subscriptions; replies are counted by the inboxes.
    published: AtomicU64,
    common: Arc<Common>,
}

/// What the queues need of their broker.
#[derive(Debug, Default)]
pub(crate) struct Common {
    inboxes: Inboxes,
    alarm: Alarm,
    /// Redeliveries that wait for their time.
    tasks: TaskTracker,
    /// Ends the waiting; whatever still waits is given up.
    over: CancellationToken,
    /// Signals that a stopping queue or mailbox ran empty.
    emptied: Notify,
}

/// The life of a queue or mailbox.
///
/// ## Open => Stopping => Ended, or Open => Ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Takes messages and gives them out.
    #[default]
    Open,
    /// Only gives out what it has.
    Stopping,
    /// Neither.
    Ended,
}

/// Wakes whoever it is, if it is anybody; never under a lock.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl MemoryTransport {
    /// Makes a broker that nobody else uses yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a broker in memory can do.
    pub const CAPABILITIES: Capabilities = CAPABILITIES;

    /// How many subscriptions and groups a message of this subject would reach now.
    #[must_use]
    pub fn receivers(&self, subject: &Subject) -> usize {
        self.0.registry.route(subject).route.receivers()
    }
}

impl Transport for MemoryTransport {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        publish::publish(&self.0, message, options)
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>> {
        Box::pin(std::future::ready(self.0.subscribe(request)))
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        self.0.open_inbox()
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        Box::pin(self.0.close(drain))
    }

    fn stats(&self) -> TransportStats {
        let inboxes = &self.0.common.inboxes;
        TransportStats {
            published: self.0.published.load(Ordering::Relaxed) + inboxes.replies(),
            inboxes: inboxes.len(),
            queues: self
                .0
                .registry
                .queues()
                .iter()
                .map(|queue| queue.stats())
                .collect(),
        }
    }
}

impl Broker {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn subscribe(self: &Arc<Self>, request: Subscribe) -> Result<Subscription, TransportError> {
        if self.is_closed() {
            return Err(TransportError::Closed);
        }
        CAPABILITIES.check(&request)?;
        let options = QueueOptions {
            capacity: request.capacity.clamp(1, limits::QUEUE_CAPACITY_MAX),
            overflow: request.overflow,
        };
        let queue = self
            .registry
            .join(request.pattern, request.group, |pattern, group| {
                Queue::new(pattern, group, options, Arc::clone(&self.common))
            })?;
        Ok(Subscription::new(MemorySource::new(
            Arc::clone(self),
            queue,
        )))
    }

    fn open_inbox(self: &Arc<Self>) -> Result<Inbox, TransportError> {
        if self.is_closed() {
            return Err(TransportError::Closed);
        }
        let subject = Subject::inbox(rand::rng().random());
        let token = self.common.inboxes.open(&subject)?;
        let broker = Arc::clone(self);
        Ok(Inbox::in_memory(subject, InboxSource::new(broker, token)))
    }

    async fn close(&self, drain: Duration) -> Drained {
        self.closed.store(true, Ordering::Release);
        let deadline = crate::clock::moment_in(drain);
        let (queues, inboxes) = (self.registry.queues(), &self.common.inboxes);
        queues.iter().for_each(|queue| queue.stop());
        inboxes.stop_all();
        loop {
            // Made before the look, so that a queue that runs empty in between is not missed.
            let emptied = self.common.emptied.notified();
            if queues.iter().all(|queue| queue.is_empty()) && inboxes.are_empty() {
                break;
            }
            if tokio::time::timeout_at(deadline, emptied).await.is_err() {
                break;
            }
        }
        let lost: usize = queues.iter().map(|queue| queue.end()).sum();
        let abandoned = lost + inboxes.end_all();
        self.common.over.cancel();
        self.common.tasks.close();
        self.common.tasks.wait().await;
        Drained { abandoned }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.common.alarm.end();
    }
}
