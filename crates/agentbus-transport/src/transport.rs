//! The contract.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agentbus_protocol::{Pattern, Text};

use crate::{
    Capabilities, Completion, Durability, Inbox, Message, Subscription, TransportError,
    TransportStats, limits,
};

/// A boxed future, for operations that are not on a hot path.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What carries envelopes.
///
/// The contract kit runs the same cases against every implementation; each promise below is one.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// What this transport can do.
    fn capabilities(&self) -> Capabilities;

    /// Sends a message to every matching subscription and one member of every matching group.
    ///
    /// Completes when the carrier has taken the message at its level of [`Durability`]; a full
    /// queue whose policy is [`Overflow::Wait`] makes it wait, which is how back-pressure reaches
    /// the publisher. Dropping the future while it waits leaves the message with those receivers
    /// that had room.
    ///
    /// Subjects beginning with `_INBOX.` go to the one inbox of that name, if it is still open.
    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>>;

    /// Starts a subscription. When this returns, every later publish reaches it.
    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>>;

    /// Opens a private subject for replies. Cheap: every call opens one.
    ///
    /// # Errors
    /// Fails when the transport is closed or too many inboxes are open.
    fn open_inbox(&self) -> Result<Inbox, TransportError>;

    /// Takes no more publishes, lets subscribers receive what is queued for at most `drain`, then
    /// ends every subscription. Calling it again is harmless.
    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained>;

    /// What can be seen of the transport from here; a carrier in another process shows nothing.
    fn stats(&self) -> TransportStats {
        TransportStats::default()
    }
}

/// How a publish is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishOptions {
    /// Wait for the strongest confirmation that the transport has.
    pub confirm: bool,
    /// Fail with [`TransportError::NoResponder`] when nobody listens.
    pub require_responder: bool,
}

/// What an accepted publish proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where the message is now.
    pub durability: Durability,
    /// How many subscriptions and groups received it; `None` where the carrier does not say.
    pub receivers: Option<usize>,
}

/// What a subscription asks for.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// Which subjects.
    pub pattern: Pattern,
    /// Members of one group share the messages; each goes to one of them.
    pub group: Option<Text>,
    /// A name that outlives the connection.
    pub durable: Option<Text>,
    /// Where to begin.
    pub start: Start,
    /// The most messages that wait in the queue.
    pub capacity: usize,
    /// What happens when the queue is full.
    pub overflow: Overflow,
    /// The most messages that are handed out before the first of them is settled. Members of a
    /// group take few, so that the others can have the rest.
    pub prefetch: usize,
}

impl Subscribe {
    /// A plain subscription to what is published from now on.
    #[must_use]
    pub const fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            group: None,
            durable: None,
            start: Start::New,
            capacity: limits::QUEUE_CAPACITY,
            overflow: Overflow::Wait,
            prefetch: limits::PREFETCH,
        }
    }
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With what is published from now on.
    #[default]
    New,
    /// With the oldest message that is kept.
    Beginning,
    /// With a number of the transport's log.
    Sequence(u64),
    /// With the first message at or after a time.
    Time(SystemTime),
}

/// What happens to a publish when a subscriber's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The publisher waits for room.
    #[default]
    Wait,
    /// The oldest message of the lowest waiting priority makes room; the subscriber is told how
    /// many it lost. A message below everything that waits is itself the one lost.
    DropOldest,
    /// The publish fails; other subscribers have received the message all the same.
    Fail,
}

/// How a close ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Messages that nobody received within the drain time.
    pub abandoned: usize,
}
