//! Lines from a client, any of which may be bad without ending the session.

use std::io;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, LinesCodec, LinesCodecError};

use super::wire::{NO_ID, NO_JSON, NO_REQUEST, error};

/// Longest line, and longest event: as much as the bus takes.
pub(super) const LINE_BYTES_MAX: usize = agentbus_mcp::limits::REQUEST_BYTES_MAX;

/// Why a line is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    NotJson,
    NotText,
    TooLong,
}

impl Unread {
    /// What the client is told; the line has no id that could be read.
    pub(super) fn answer(self) -> String {
        let (code, text) = match self {
            Self::NotJson => (NO_JSON, "the line is not JSON".to_owned()),
            Self::NotText => (NO_JSON, "the line is not UTF-8".to_owned()),
            Self::TooLong => {
                let text = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                (NO_REQUEST, text)
            }
        };
        error(NO_ID, code, &text)
    }
}

/// Takes lines apart. A bad one is an item like the others, because a stream of frames ends with
/// the first error of its decoder.
pub(super) struct Lines(LinesCodec);

impl Lines {
    pub(super) fn new() -> Self {
        Self(LinesCodec::new_with_max_length(LINE_BYTES_MAX))
    }
}

impl Decoder for Lines {
    type Item = Result<String, Unread>;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Ok(item(self.0.decode(bytes)))
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Ok(item(self.0.decode_eof(bytes)))
    }
}

fn item(decoded: Result<Option<String>, LinesCodecError>) -> Option<Result<String, Unread>> {
    match decoded {
        Ok(line) => line.map(Ok),
        Err(LinesCodecError::MaxLineLengthExceeded) => Some(Err(Unread::TooLong)),
        // It reads nothing itself, so this is what it says of bytes that are no text.
        Err(LinesCodecError::Io(_)) => Some(Err(Unread::NotText)),
    }
}
