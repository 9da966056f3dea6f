//! What a transport can and cannot do.

use std::fmt;

use crate::{PublishOptions, Subscribe, TransportError};

/// What a transport promises. Each field is a row of `agentbus semantics` and a contract test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The transport's name.
    pub name: &'static str,
    /// In which order messages arrive.
    pub ordering: Ordering,
    /// Where a message is when its publish has been accepted.
    pub durability: Durability,
    /// What a confirmed publish proves.
    pub confirmation: Confirmation,
    /// Whether `ack` and `nak` have an effect beyond confirmation.
    pub ack: bool,
    /// Whether a message that was not handled is delivered again, with its attempt counted.
    pub redelivery: bool,
    /// Whether only what a subscriber was handed counts as an attempt. Elsewhere also what had been
    /// sent ahead to one that then went.
    pub exact_attempts: bool,
    /// Whether a subscription can start in the past.
    pub replay: bool,
    /// Whether a subscription can have a name that outlives its connection.
    pub durable: bool,
    /// Whether such a name can be removed through the transport. Elsewhere it is removed with the
    /// tools of its server.
    pub durable_removal: bool,
    /// Whether the transport lists the names there are. Elsewhere the tools of its server do.
    pub durable_listing: bool,
    /// Whether a message that is worked on for too long goes to somebody else.
    pub lease: bool,
    /// Whether a message that used up its attempts becomes a dead letter.
    pub dead_letters: bool,
    /// Whether a publish that is repeated under one key is stored once.
    pub idempotency: bool,
    /// Whether subscribers can share the work of a pattern.
    pub queue_groups: bool,
    /// Whether a group is one queue, from which each member takes when it has room. Elsewhere each
    /// message is dealt to some member at once, waits for that one, and goes with it.
    pub shared_queues: bool,
    /// Whether a group is one receiver even of what its members match with different patterns.
    /// Elsewhere members of one group use one pattern, or patterns that have nothing in common.
    pub mixed_groups: bool,
    /// Whether patterns may hold `*` and `>`.
    pub wildcards: bool,
    /// Whether a higher priority overtakes.
    pub priority: bool,
    /// Whether expired messages are withheld.
    pub ttl: bool,
    /// Whether a request that nobody serves is known at once.
    pub no_responder: bool,
    /// Whether a full queue can hold its publishers back or refuse them. Elsewhere a subscriber
    /// whose queue is full loses the oldest messages and is told how many.
    pub backpressure: bool,
    /// The largest encoded envelope; `None` where only memory limits it.
    pub max_payload_bytes: Option<usize>,
}

/// In which order one subscriber gets the messages of one publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// In publish order within one priority.
    PerPublisher,
    /// No promise.
    None,
}

/// Where a message is when its publish has been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the memory of one process.
    Memory,
    /// With the operating system of one machine.
    Os,
    /// On the disk of one machine.
    Disk,
    /// On the disks of several machines.
    Replicated,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Disk => "disk",
            Self::Replicated => "replicated",
        })
    }
}

/// What a confirmed publish proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// The carrier has taken the message.
    Accepted,
    /// Every receiver has acknowledged the message.
    Handled,
}

/// One thing that can be asked of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// A durable subscription name.
    Durable,
    /// Removal of a durable subscription name.
    DurableRemoval,
    /// A list of the durable subscription names.
    DurableListing,
    /// A subscription that starts in the past.
    Replay,
    /// A limit to how long a message is worked on.
    Lease,
    /// A limit to how often a message is tried.
    DeadLetters,
    /// Publishing under a key.
    Idempotency,
    /// Confirmation by the handlers rather than the carrier.
    HandledConfirmation,
    /// Queue groups.
    QueueGroups,
    /// A group whose members listen on overlapping patterns.
    MixedGroups,
    /// Wildcards in patterns.
    Wildcards,
    /// Lanes in which what is more urgent overtakes.
    Priority,
    /// A notice that nobody listens.
    NoResponder,
    /// A full queue that holds back or refuses its publishers.
    Backpressure,
}

impl Capability {
    /// Tells which transport has it, as the end of an error sentence.
    #[must_use]
    pub const fn who_has_it(self) -> &'static str {
        match self {
            Self::Durable
            | Self::DurableRemoval
            | Self::DurableListing
            | Self::Replay
            | Self::Lease
            | Self::DeadLetters
            | Self::Idempotency => "the sqlite transport can: sqlite://PATH",
            Self::HandledConfirmation
            | Self::QueueGroups
            | Self::MixedGroups
            | Self::Wildcards
            | Self::Priority
            | Self::NoResponder
            | Self::Backpressure => "the memory transport can",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Durable => "durable subscriptions",
            Self::DurableRemoval => "removal of a durable name",
            Self::DurableListing => "a list of durable names",
            Self::Replay => "replay from the past",
            Self::Lease => "leases on messages",
            Self::DeadLetters => "a limit of attempts",
            Self::Idempotency => "idempotent publishing",
            Self::HandledConfirmation => "confirmation by the handlers",
            Self::QueueGroups => "queue groups",
            Self::MixedGroups => "one group over overlapping patterns",
            Self::Wildcards => "wildcards",
            Self::Priority => "priority",
            Self::NoResponder => "notice that nobody listens",
            Self::Backpressure => "back-pressure from a full queue",
        })
    }
}

impl Capabilities {
    /// Refuses what the transport lacks.
    ///
    /// # Errors
    /// Fails with the capability and a transport that has it.
    pub fn require(&self, capability: Capability) -> Result<(), TransportError> {
        let has = match capability {
            Capability::Durable => self.durable,
            Capability::DurableRemoval => self.durable_removal,
            Capability::DurableListing => self.durable_listing,
            Capability::Replay => self.replay,
            Capability::Lease => self.lease,
            Capability::DeadLetters => self.dead_letters,
            Capability::Idempotency => self.idempotency,
            Capability::HandledConfirmation => self.confirmation == Confirmation::Handled,
            Capability::QueueGroups => self.queue_groups,
            Capability::MixedGroups => self.mixed_groups,
            Capability::Wildcards => self.wildcards,
            Capability::Priority => self.priority,
            Capability::NoResponder => self.no_responder,
            Capability::Backpressure => self.backpressure,
        };
        let unsupported = TransportError::Unsupported {
            transport: self.name,
            capability,
        };
        if has { Ok(()) } else { Err(unsupported) }
    }

    /// Refuses a subscription that asks for what the transport lacks.
    ///
    /// # Errors
    /// Fails with the first capability that is missing and a transport that has it.
    pub fn check(&self, request: &Subscribe) -> Result<(), TransportError> {
        request.needs().try_for_each(|needed| self.require(needed))
    }

    /// Refuses a publish that asks for what the transport lacks.
    ///
    /// # Errors
    /// Fails with the capability that is missing and a transport that has it.
    pub fn check_publish(&self, options: &PublishOptions) -> Result<(), TransportError> {
        match options.idempotency_key {
            Some(_) => self.require(Capability::Idempotency),
            None => Ok(()),
        }
    }
}
