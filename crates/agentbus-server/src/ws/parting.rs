//! Why a connection ends, as its close frame says (RFC 6455, section 7.4).

use std::sync::{Arc, OnceLock};

use axum::extract::ws::{CloseFrame, Utf8Bytes, close_code};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::error::ProtocolError;

/// Longest reason in bytes: a control frame holds 125, two of which are the code.
const REASON_BYTES_MAX: usize = 123;

/// What a client has done, for which its connection ends.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    code: u16,
    pub(crate) text: String,
}

impl Fault {
    fn new(code: u16, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text }
    }

    /// A message of another kind than those that are read.
    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self::new(close_code::UNSUPPORTED, text)
    }

    /// A message that is not what it should be.
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(close_code::INVALID, text)
    }

    /// Too much or too little of what is right.
    pub(crate) fn policy(text: impl Into<String>) -> Self {
        Self::new(close_code::POLICY, text)
    }

    /// What the library says of bytes that are no message; none of a client that is gone.
    pub(crate) fn found(error: axum::Error) -> Option<Self> {
        let error = error.into_inner();
        let code = match error.downcast_ref::<tungstenite::Error>()? {
            tungstenite::Error::Capacity(_) => close_code::SIZE,
            tungstenite::Error::Utf8(_) => close_code::INVALID,
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return None;
            }
            tungstenite::Error::Protocol(_) => close_code::PROTOCOL,
            _ => return None,
        };
        Some(Self::new(code, error.to_string()))
    }

    fn frame(&self) -> CloseFrame {
        let end = self.text.floor_char_boundary(REASON_BYTES_MAX);
        CloseFrame {
            code: self.code,
            reason: Utf8Bytes::from(&self.text[..end]),
        }
    }
}

/// What a connection says at its end; without a fault, a goodbye without a word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parting(Arc<OnceLock<CloseFrame>>);

impl Parting {
    /// Remembers why the connection ends. The first fault counts: it is the one that ends it.
    pub(crate) fn because(&self, fault: &Fault) {
        let _ = self.0.set(fault.frame());
    }

    pub(super) fn frame(&self) -> Option<CloseFrame> {
        self.0.get().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_its_frame_and_breaks_no_character() {
        let long = Fault::policy("a".to_owned() + &"ä".repeat(100)).frame();
        assert_eq!(long.reason.len(), 123);
        let long = Fault::policy("ä".repeat(100)).frame();
        assert_eq!(long.reason.len(), 122);
        assert_eq!(Fault::invalid("no").frame().reason.as_str(), "no");
    }
}
