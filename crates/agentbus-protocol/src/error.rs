//! The payload of an error reply.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{Envelope, Text};

/// Names why a call failed. The eight named codes are the closed set of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// No answer in time.
    AgentTimeout,
    /// The agent failed, panicked or died.
    AgentUnavailable,
    /// A queue or a reorder buffer was full.
    BackpressureDrop,
    /// The carrier failed.
    TransportFailure,
    /// Bytes could not be read or written as what they should be.
    CodecFailure,
    /// The caller is not who it must be.
    AuthFailure,
    /// The request itself is wrong; sending it again cannot help.
    InvalidRequest,
    /// Nobody serves the target.
    NoHandler,
    /// A code outside the closed set, from a peer; it is passed on as it came.
    Other(Text),
}

impl ErrorCode {
    /// The eight codes that this implementation writes.
    pub const CLOSED_SET: [Self; 8] = [
        Self::AgentTimeout,
        Self::AgentUnavailable,
        Self::BackpressureDrop,
        Self::TransportFailure,
        Self::CodecFailure,
        Self::AuthFailure,
        Self::InvalidRequest,
        Self::NoHandler,
    ];

    /// The wire text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::AgentTimeout => "AGENT_TIMEOUT",
            Self::AgentUnavailable => "AGENT_UNAVAILABLE",
            Self::BackpressureDrop => "BACKPRESSURE_DROP",
            Self::TransportFailure => "TRANSPORT_FAILURE",
            Self::CodecFailure => "CODEC_FAILURE",
            Self::AuthFailure => "AUTH_FAILURE",
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::NoHandler => "NO_HANDLER",
            Self::Other(text) => text,
        }
    }

    /// Reads the wire text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let known = Self::CLOSED_SET
            .into_iter()
            .find(|code| code.as_str() == text);
        known.unwrap_or_else(|| Self::Other(text.into()))
    }

    /// Whether the same request may succeed when it is sent again, unless the payload says otherwise.
    #[must_use]
    pub const fn retryable_by_default(&self) -> bool {
        matches!(
            self,
            Self::AgentTimeout | Self::BackpressureDrop | Self::TransportFailure
        )
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&Text::deserialize(deserializer)?))
    }
}

/// What the payload of an `agent.response.error` envelope says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorPayload {
    /// Why the call failed.
    pub code: ErrorCode,
    /// The same for people.
    #[serde(default)]
    pub message: String,
    /// Whether the same request may succeed when it is sent again.
    #[serde(default)]
    pub retryable: bool,
    /// Details, a JSON object; an empty one is the same as none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "read_cause"
    )]
    pub cause: Option<Box<RawValue>>,
}

/// Python peers always send `"cause":{}`; that is no cause.
fn read_cause<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    let cause = Option::<Box<RawValue>>::deserialize(deserializer)?;
    let blank = |raw: &RawValue| {
        raw.get()
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .eq(*b"{}")
    };
    Ok(cause.filter(|raw| !blank(raw)))
}

impl ErrorPayload {
    /// Makes a payload whose `retryable` follows from the code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retryable = code.retryable_by_default();
        Self {
            code,
            message: message.into(),
            retryable,
            cause: None,
        }
    }

    /// Reads the error that an envelope carries, filling in what a careless peer left out.
    ///
    /// Returns `None` when the envelope is not an error reply.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Option<Self> {
        if envelope.event_type != crate::EventType::RESPONSE_ERROR {
            return None;
        }
        let read = envelope
            .payload
            .as_ref()
            .and_then(|payload| payload.decode::<Self>().ok());
        let mut error = read.unwrap_or_else(|| Self::new(ErrorCode::AgentUnavailable, ""));
        if error.code.as_str().is_empty() {
            error.code = ErrorCode::AgentUnavailable;
        }
        if error.message.is_empty() {
            error.message = "agent error".to_owned();
        }
        Some(error)
    }
}

impl PartialEq for ErrorPayload {
    fn eq(&self, other: &Self) -> bool {
        let cause = |payload: &Self| payload.cause.as_ref().map(|raw| raw.get().to_owned());
        self.code == other.code
            && self.message == other.message
            && self.retryable == other.retryable
            && cause(self) == cause(other)
    }
}

impl Eq for ErrorPayload {}
