//! W3C trace context (Trace Context level 1, section 3.2).

use std::fmt;

use crate::Text;

/// A parsed `traceparent`: version 00, trace id, parent span id and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceParent {
    /// Makes a sampled trace context from two random numbers; zero, which is invalid, becomes one.
    #[must_use]
    pub const fn new(trace_id: u128, span_id: u64) -> Self {
        let trace_id = if trace_id == 0 { 1 } else { trace_id };
        Self {
            trace_id,
            span_id: if span_id == 0 { 1 } else { span_id },
            flags: 1,
        }
    }

    /// Reads a header. `None` for anything that the specification tells receivers to ignore.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
        // Version 00 has exactly four parts; later versions may append more; ff is invalid.
        let acceptable = version < 0xff && (version > 0 || parts.next().is_none());
        (acceptable && trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            flags,
        })
    }

    /// The same trace seen from another span.
    #[must_use]
    pub const fn child(self, span_id: u64) -> Self {
        Self {
            span_id: if span_id == 0 { 1 } else { span_id },
            ..self
        }
    }

    /// The header's value, as it is written into an envelope.
    #[must_use]
    pub fn text(self) -> Text {
        const LENGTH: usize = 55;
        let mut bytes = *b"00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
        write_hex(&mut bytes[3..35], self.trace_id);
        write_hex(&mut bytes[36..52], self.span_id.into());
        write_hex(&mut bytes[53..LENGTH], self.flags.into());
        // All of it is ASCII, so it always is text.
        Text::new(std::str::from_utf8(&bytes).unwrap_or_default())
    }

    /// Whether whoever began the trace wants it recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }

    /// The trace id as a number.
    #[must_use]
    pub const fn raw_trace_id(self) -> u128 {
        self.trace_id
    }

    /// The span id as a number.
    #[must_use]
    pub const fn raw_span_id(self) -> u64 {
        self.span_id
    }

    /// The trace id as 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The span id as 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(self) -> String {
        format!("{:016x}", self.span_id)
    }
}

/// Reads exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let valid = text.len() == digits && text.bytes().all(lower_hex);
    valid.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// Fills the room with the lowest digits of a number. By hand, because every request that comes
/// without a trace begins one, and the formatting machinery costs more than the rest of it.
fn write_hex(room: &mut [u8], number: u128) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (place, byte) in room.iter_mut().rev().enumerate() {
        *byte = DIGITS[(number >> (4 * place)) as usize & 15];
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}
