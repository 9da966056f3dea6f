//! The JSON form of an envelope: strict when writing, tolerant when reading.
//!
//! Writing is by hand because the payload is already JSON and must go out as the bytes it is;
//! reading is one pass that leaves the payload where it lies in the input.

mod plain;
mod quick;
mod read;
mod write;

use crate::limits::ENVELOPE_BYTES_MAX;
use crate::{ErrorCode, TimestampError};

pub use write::write_text;

/// Tells why bytes are not an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than a reader accepts.
    #[error("the envelope has {bytes} bytes; the limit is {ENVELOPE_BYTES_MAX}")]
    TooLarge {
        /// How many there were.
        bytes: usize,
    },
    /// Not a JSON object, or a field of the wrong type.
    #[error("not an envelope: {0}")]
    Malformed(String),
    /// `occurred_at` is not RFC 3339.
    #[error("`occurred_at`: {0}")]
    Time(#[from] TimestampError),
    /// A stream frame with a number below zero.
    #[error("`seq` is {0}, but frames count from 0")]
    NegativeSeq(i64),
}

impl DecodeError {
    /// The code to answer or end a stream with.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            // Recorded behaviour of the protocol's readers: a frame that cannot be placed in
            // order ends the stream in the same way as one that is too far ahead.
            Self::NegativeSeq(_) => ErrorCode::BackpressureDrop,
            _ => ErrorCode::CodecFailure,
        }
    }
}
