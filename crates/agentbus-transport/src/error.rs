//! Why a transport could not do what it was asked.

use agentbus_protocol::{ErrorCode, ErrorPayload, Subject};

use crate::Capability;

/// Everything that can go wrong between a publisher and a subscriber.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The transport was closed.
    #[error("the transport is closed")]
    Closed,
    /// Nobody listens where a listener was required.
    #[error("nobody serves {subject}")]
    NoResponder {
        /// The subject without a listener.
        subject: Subject,
    },
    /// A subscriber's queue is full and its policy is to fail.
    #[error(
        "a subscriber of {subject} has {capacity} messages waiting and takes no more; publish slower, or give it a larger queue"
    )]
    QueueFull {
        /// The subject.
        subject: Subject,
        /// The capacity of the full queue.
        capacity: usize,
    },
    /// A confirmed publish was not handled by everyone who received it.
    #[error("{failed} of {receivers} receivers of {subject} did not confirm: {reason}")]
    Unconfirmed {
        /// The subject.
        subject: Subject,
        /// How many received it.
        receivers: usize,
        /// How many did not confirm.
        failed: usize,
        /// What became of the first that failed: `expired`, `abandoned`, `rejected`, `dropped` …
        reason: &'static str,
    },
    /// The message was already expired when it was published.
    #[error("the message for {subject} had expired before it was published")]
    Expired {
        /// The subject.
        subject: Subject,
    },
    /// The payload does not match the schema that this bus asks for.
    #[error("the payload of {name} does not match its schema: {problems}")]
    Invalid {
        /// The event type or target.
        name: String,
        /// What does not match, and where.
        problems: String,
    },
    /// The message is larger than the carrier takes.
    #[error("the message has {bytes} bytes; the {transport} transport carries at most {limit}")]
    TooLarge {
        /// The transport's name.
        transport: &'static str,
        /// Size of the message.
        bytes: usize,
        /// Size that would have been accepted.
        limit: usize,
    },
    /// The log has reached its size and holds nothing that may be forgotten.
    #[error(
        "the log is full: {bytes} of {limit} bytes are messages that a durable subscription has not settled; let it catch up, remove it, or allow a larger log"
    )]
    LogFull {
        /// The size of the log.
        bytes: u64,
        /// The size it may have.
        limit: u64,
    },
    /// A stream of a server has reached a limit and is set up to refuse what is new.
    #[error(
        "the stream {stream} is full ({reason}) and takes nothing new; let its consumers catch up, purge it, or raise its limits"
    )]
    StreamFull {
        /// The stream.
        stream: String,
        /// Which limit it is, in the server's words.
        reason: String,
    },
    /// A durable name cannot be used like this.
    #[error("the durable subscription `{name}` {reason}")]
    Durable {
        /// The name.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A verdict came when the delivery was no longer the subscriber's to decide.
    #[error(
        "the lease on a message of {subject} has ended and somebody else may have it; settle sooner, or extend the lease in time"
    )]
    LeaseEnded {
        /// The subject.
        subject: Subject,
    },
    /// Another process has the store open.
    #[error("{place} is in use by {holder}; stop it, or reach the bus that it serves with --url")]
    InUse {
        /// The file.
        place: String,
        /// Who has it, as far as that is known.
        holder: String,
    },
    /// A store cannot be read.
    #[error("{place} is damaged: {reason}")]
    Damaged {
        /// The file.
        place: String,
        /// What was found and what to do.
        reason: String,
    },
    /// The URL or its options are wrong.
    #[error("{0}")]
    Address(String),
    /// One of the named limits is reached.
    #[error("the {transport} transport holds {limit} {what} already; close some first")]
    TooMany {
        /// The transport's name.
        transport: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The transport lacks what was asked for.
    #[error("the {transport} transport cannot give {capability}; {}", capability.who_has_it())]
    Unsupported {
        /// The transport's name.
        transport: &'static str,
        /// What it lacks.
        capability: Capability,
    },
    /// The far side refused the connection's credentials or an operation.
    #[error("the {transport} transport was refused: {reason}")]
    Refused {
        /// The transport's name.
        transport: &'static str,
        /// What the far side said.
        reason: String,
    },
    /// The far side could not do what was asked and says why.
    #[error("{}", .0.message)]
    Remote(ErrorPayload),
    /// The connection to the carrier failed.
    #[error("the {transport} transport failed: {reason}")]
    Carrier {
        /// The transport's name.
        transport: &'static str,
        /// What happened.
        reason: String,
    },
}

impl TransportError {
    /// The code under which a caller hears of this.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Remote(payload) => payload.code.clone(),
            Self::NoResponder { .. } => ErrorCode::NoHandler,
            Self::QueueFull { .. }
            | Self::TooMany { .. }
            | Self::LogFull { .. }
            | Self::StreamFull { .. } => ErrorCode::BackpressureDrop,
            Self::Expired { .. } | Self::LeaseEnded { .. } => ErrorCode::AgentTimeout,
            Self::TooLarge { .. }
            | Self::Unsupported { .. }
            | Self::Durable { .. }
            | Self::Invalid { .. }
            | Self::Address(_) => ErrorCode::InvalidRequest,
            Self::Refused { .. } => ErrorCode::AuthFailure,
            Self::Closed
            | Self::Unconfirmed { .. }
            | Self::Carrier { .. }
            | Self::InUse { .. }
            | Self::Damaged { .. } => ErrorCode::TransportFailure,
        }
    }

    /// Whether the same operation may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::QueueFull { .. }
                | Self::TooMany { .. }
                | Self::LogFull { .. }
                | Self::StreamFull { .. }
                | Self::InUse { .. }
                | Self::Carrier { .. }
        )
    }
}
