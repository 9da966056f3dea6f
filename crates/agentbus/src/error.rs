//! Why a call, a publish or a handler failed.

use std::time::Duration;

use agentbus_protocol::reassembly::ReassemblyError;
use agentbus_protocol::{
    DecodeError, ErrorCode, ErrorPayload, PatternError, PayloadError, SubjectError,
};
use agentbus_transport::TransportError;

/// Everything that can go wrong on the bus, in a caller or in a handler.
///
/// Each has a code of the protocol ([`Error::code`]) and says whether trying again may help
/// ([`Error::is_retryable`]).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody serves the target.
    #[error(
        "nobody serves `{target}`; start an agent for it, for example with `agentbus handle {target} -- CMD`"
    )]
    NoHandler {
        /// The target, or the topic of a request.
        target: String,
    },
    /// The agent ended, or was cancelled, before it answered.
    #[error(
        "the agent that serves `{target}` ended before it answered; try again if the request may run twice"
    )]
    Abandoned {
        /// The target, or the topic of a request.
        target: String,
    },
    /// The other side answered with an error, or a handler made one.
    #[error("{}: {}", .0.code, .0.message)]
    Remote(ErrorPayload),
    /// No reply in time.
    #[error("no reply from `{target}` within {} s", .after.as_secs_f64())]
    Timeout {
        /// Who did not reply.
        target: String,
        /// How long was waited.
        after: Duration,
    },
    /// A stream fell silent.
    #[error("`{target}` sent no frame for {} s", .after.as_secs_f64())]
    IdleTimeout {
        /// Who fell silent.
        target: String,
        /// How long was waited.
        after: Duration,
    },
    /// The deadline passed while the message waited in a queue.
    #[error("the message expired before a handler took it")]
    Expired,
    /// Every attempt of a retried handler failed.
    #[error("{last} (after {attempts} attempts; the first failed with: {first})")]
    Exhausted {
        /// How many attempts were made.
        attempts: u32,
        /// What the first failed with.
        first: Box<Error>,
        /// What the last failed with; its code is what the caller sees.
        last: Box<Error>,
    },
    /// Frames of a stream could not be put in order.
    #[error("the stream cannot be put in order: {0}")]
    Order(#[from] ReassemblyError),
    /// A subject, target or event type is not valid.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A pattern is not valid.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A payload is not what it should be.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// An envelope could not be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The carrier failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A stream writer was used after its end.
    #[error("the stream has ended; nothing can follow its last frame")]
    StreamEnded,
    /// A stream handler announced its start twice.
    #[error("the stream has started already; `started` can only come first and once")]
    StreamStarted,
    /// A message to reply to does not say where.
    #[error("the message asks for no reply: it has no `reply_to`")]
    NoReplyTo,
    /// One target cannot be served for single replies and for streams by one bus.
    #[error(
        "`{target}` is served as {present} on this bus already; choose another target for the {wanted}"
    )]
    MixedTarget {
        /// The target.
        target: String,
        /// What it is served as.
        present: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The bus cannot be set up as asked.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// An error for the caller to see: the request itself is wrong.
    #[must_use]
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::Remote(ErrorPayload::new(ErrorCode::InvalidRequest, message))
    }

    /// An error for the caller to see: the agent could not do it.
    #[must_use]
    pub fn agent(message: impl Into<String>) -> Self {
        Self::Remote(ErrorPayload::new(ErrorCode::AgentUnavailable, message))
    }

    /// The code of the protocol.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoHandler { .. } => ErrorCode::NoHandler,
            Self::Remote(payload) => payload.code.clone(),
            Self::Exhausted { last, .. } => last.code(),
            Self::Timeout { .. } | Self::IdleTimeout { .. } | Self::Expired => {
                ErrorCode::AgentTimeout
            }
            Self::Order(_) => ErrorCode::BackpressureDrop,
            Self::Decode(error) => error.code(),
            Self::Transport(error) => error.code(),
            Self::Abandoned { .. } | Self::StreamEnded | Self::StreamStarted => {
                ErrorCode::AgentUnavailable
            }
            Self::Subject(_)
            | Self::Pattern(_)
            | Self::Payload(_)
            | Self::NoReplyTo
            | Self::MixedTarget { .. }
            | Self::Setup(_) => ErrorCode::InvalidRequest,
        }
    }

    /// Whether the same operation may succeed when it is tried again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Remote(payload) => payload.retryable,
            Self::Transport(error) => error.is_retryable(),
            Self::Exhausted { last, .. } => last.is_retryable(),
            Self::Abandoned { .. } => true,
            other => other.code().retryable_by_default(),
        }
    }

    /// What a caller is answered with.
    #[must_use]
    pub fn to_payload(&self) -> ErrorPayload {
        match self {
            Self::Remote(payload) => payload.clone(),
            Self::Exhausted { last, .. } => last.to_payload(),
            other => {
                let mut payload = ErrorPayload::new(other.code(), other.to_string());
                payload.retryable = other.is_retryable();
                payload
            }
        }
    }
}

impl From<ErrorPayload> for Error {
    fn from(payload: ErrorPayload) -> Self {
        Self::Remote(payload)
    }
}
