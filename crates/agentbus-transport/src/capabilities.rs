//! What a transport can and cannot do.

use std::fmt;

use crate::TransportError;

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
    /// Whether a subscription can start in the past.
    pub replay: bool,
    /// Whether a subscription can have a name that outlives its connection.
    pub durable: bool,
    /// Whether subscribers can share the work of a pattern.
    pub queue_groups: bool,
    /// Whether patterns may hold `*` and `>`.
    pub wildcards: bool,
    /// Whether a higher priority overtakes.
    pub priority: bool,
    /// Whether expired messages are withheld.
    pub ttl: bool,
    /// Whether a request that nobody serves is known at once.
    pub no_responder: bool,
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
    /// A subscription that starts in the past.
    Replay,
    /// Confirmation by the handlers rather than the carrier.
    HandledConfirmation,
    /// Queue groups.
    QueueGroups,
    /// Wildcards in patterns.
    Wildcards,
}

impl Capability {
    /// Tells which transport has it, as the end of an error sentence.
    #[must_use]
    pub const fn who_has_it(self) -> &'static str {
        match self {
            Self::Durable | Self::Replay => {
                "no transport in this version can; subscribe without it"
            }
            Self::HandledConfirmation | Self::QueueGroups | Self::Wildcards => {
                "the memory transport can"
            }
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Durable => "durable subscriptions",
            Self::Replay => "replay from the past",
            Self::HandledConfirmation => "confirmation by the handlers",
            Self::QueueGroups => "queue groups",
            Self::Wildcards => "wildcards",
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
            Capability::Replay => self.replay,
            Capability::HandledConfirmation => self.confirmation == Confirmation::Handled,
            Capability::QueueGroups => self.queue_groups,
            Capability::Wildcards => self.wildcards,
        };
        let unsupported = TransportError::Unsupported {
            transport: self.name,
            capability,
        };
        if has { Ok(()) } else { Err(unsupported) }
    }
}
