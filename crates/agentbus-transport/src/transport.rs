//! The contract.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agentbus_protocol::{Pattern, SubjectSpace, Text, subject};

use crate::{
    Capabilities, Capability, Completion, Durability, DurableInfo, Inbox, Message, Subscription,
    TransportError, TransportStats, limits,
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

    /// Event types that are subjects by themselves here, without the prefix of a bus, because peers
    /// who know no prefix publish and hear them.
    fn shared_topics(&self) -> &[Pattern] {
        &[]
    }

    /// What can be seen of the transport from here; a carrier in another process shows nothing.
    fn stats(&self) -> TransportStats {
        TransportStats::default()
    }

    /// The subjects of the bus on the other side, for a carrier that has one there: who says
    /// nothing else speaks and listens in these. A broker has none of its own.
    fn subjects(&self) -> Option<SubjectSpace> {
        None
    }

    /// Forgets a durable name and what it has not settled; the next subscription of that name begins
    /// anew.
    ///
    /// Fails when there is no such name, when it is in use, and where the transport lacks
    /// [`Capability::DurableRemoval`].
    fn remove_durable<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<(), TransportError>> {
        let lacking = TransportError::Unsupported {
            transport: self.capabilities().name,
            capability: Capability::DurableRemoval,
        };
        Box::pin(std::future::ready(Err(lacking)))
    }

    /// Lists the durable names there are, in the order of the names.
    ///
    /// Fails where the transport lacks [`Capability::DurableListing`].
    fn durables(&self) -> BoxFuture<'_, Result<Vec<DurableInfo>, TransportError>> {
        let lacking = TransportError::Unsupported {
            transport: self.capabilities().name,
            capability: Capability::DurableListing,
        };
        Box::pin(std::future::ready(Err(lacking)))
    }
}

/// How a publish is to be treated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishOptions {
    /// Wait for the strongest confirmation that the transport has.
    pub confirm: bool,
    /// Fail with [`TransportError::NoResponder`] when nobody listens.
    pub require_responder: bool,
    /// A name for this publish, so that sending it again after a doubtful outcome stores it once:
    /// the receipt is then the first one's, marked [`Receipt::duplicate`].
    pub idempotency_key: Option<Text>,
}

/// What an accepted publish proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Where the message is now.
    pub durability: Durability,
    /// How many subscriptions and groups received it; `None` where the carrier does not say.
    pub receivers: Option<usize>,
    /// The message's number in the transport's log; `None` where it is in none.
    pub sequence: Option<u64>,
    /// Whether this publish was a repetition, by its idempotency key, and stored nothing.
    pub duplicate: bool,
}

impl Receipt {
    /// A receipt of a message that is in no log.
    #[must_use]
    pub const fn new(durability: Durability, receivers: Option<usize>) -> Self {
        Self {
            durability,
            receivers,
            sequence: None,
            duplicate: false,
        }
    }

    /// A receipt of a message that has this number in a log.
    #[must_use]
    pub const fn logged(durability: Durability, receivers: Option<usize>, sequence: u64) -> Self {
        Self {
            durability,
            receivers,
            sequence: Some(sequence),
            duplicate: false,
        }
    }

    /// The same receipt for a repetition.
    #[must_use]
    pub const fn repeated(mut self) -> Self {
        self.duplicate = true;
        self
    }
}

/// What a subscription asks for.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// Which subjects.
    pub pattern: Pattern,
    /// Members of one group share the messages; each goes to one of them.
    pub group: Option<Text>,
    /// A name that outlives the connection. Subscriptions of one durable name are one receiver and
    /// share its messages; more than one at a time need a `group`, and the same one. A name keeps
    /// the pattern and the group with which it was first used. Its queue is the transport's log,
    /// so `capacity` and `overflow` mean nothing to it, nor to a subscription that replays.
    pub durable: Option<Text>,
    /// Where to begin; a durable name that is known already goes on where it was.
    pub start: Start,
    /// How long a message may be worked on before it is given to somebody else; `None` leaves it
    /// to the transport.
    pub lease: Option<Duration>,
    /// How many attempts a message gets before it is a dead letter; `None` leaves it to the
    /// transport.
    pub max_attempts: Option<u32>,
    /// The prefix to whose `….dlq.{event type}` dead letters go.
    pub dead_letters: Text,
    /// The most messages that wait in the queue.
    pub capacity: usize,
    /// What happens when the queue is full.
    pub overflow: Overflow,
    /// The most messages that are handed out before the first of them is settled. Members of a
    /// group take few, so that the others can have the rest.
    pub prefetch: usize,
}

impl Subscribe {
    /// What this asks for beyond a plain subscription, in the order in which it is refused.
    pub fn needs(&self) -> impl Iterator<Item = Capability> {
        let needs = [
            (self.durable.is_some(), Capability::Durable),
            (self.start != Start::New, Capability::Replay),
            (self.lease.is_some(), Capability::Lease),
            (self.max_attempts.is_some(), Capability::DeadLetters),
            (self.overflow == Overflow::Fail, Capability::Backpressure),
        ];
        let asked = needs.into_iter().filter(|(asked, _)| *asked);
        asked.map(|(_, capability)| capability)
    }

    /// Whether it takes from a log, where messages wait and verdicts are kept, rather than from a
    /// queue of its own.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.needs()
            .any(|needed| needed != Capability::Backpressure)
    }

    /// A plain subscription to what is published from now on.
    #[must_use]
    pub const fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            group: None,
            durable: None,
            start: Start::New,
            lease: None,
            max_attempts: None,
            dead_letters: Text::new_static(subject::DEFAULT_PREFIX),
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
    /// The publisher waits for room. A subscriber that takes nothing for [`limits::STALL_MAX`] no
    /// longer holds anybody up: it loses messages, and is told how many.
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
