//! Identifiers of envelopes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::Text;

/// Identifies one envelope; in a reply's `correlation_id`, the request it answers.
///
/// Ours are UUIDv7. Peers may send any text and expect exactly that text back as correlation id,
/// so whatever is not a lower-case hyphenated UUID is kept as it came.
// Whole words, and no enum whose tag would be one byte: ids are copied with every message, and a
// processor that reads a word back of which it has just written a byte has to wait.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EventId {
    /// The UUID; 0 when there is none.
    uuid: (u64, u64),
    /// Set for an id that is no UUID of our spelling, and for the UUID 0.
    text: Option<Arc<str>>,
}

impl EventId {
    /// The id that is not there.
    pub const ABSENT: Self = Self {
        uuid: (0, 0),
        text: None,
    };

    /// Makes a UUIDv7 from Unix time in milliseconds and 80 random bits (RFC 9562, section 5.7).
    #[must_use]
    pub fn v7(unix_ms: u64, random: &[u8; 10]) -> Self {
        let (high, low) = random.split_at(2);
        let word = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |word, &byte| word << 8 | u64::from(byte))
        };
        Self {
            uuid: (
                unix_ms << 16 | 0x7000 | word(high) & 0x0fff,
                1 << 63 | word(low) & (u64::MAX >> 2),
            ),
            text: None,
        }
    }

    fn of(uuid: Uuid) -> Self {
        Self {
            uuid: uuid.as_u64_pair(),
            text: None,
        }
    }

    /// Reads an id from its wire text; empty text is the absent id.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            return Self::ABSENT;
        }
        match canonical_uuid(text) {
            Some(uuid) if !uuid.is_nil() => Self::of(uuid),
            _ => Self {
                text: Some(text.into()),
                ..Self::ABSENT
            },
        }
    }

    /// Whether there is no id.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        self.uuid.0 == 0 && self.uuid.1 == 0 && self.text.is_none()
    }

    /// Calls `read` with the wire text, without allocating it.
    pub fn with_str<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        if let Some(text) = &self.text {
            return read(text);
        }
        if self.is_absent() {
            return read("");
        }
        let uuid = Uuid::from_u64_pair(self.uuid.0, self.uuid.1);
        read(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

/// Parses only the spelling that we would write ourselves, so that echoing is byte-exact.
fn canonical_uuid(text: &str) -> Option<Uuid> {
    let hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if hyphenated && lower {
        Uuid::try_parse(text).ok()
    } else {
        None
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| f.pad(text))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| write!(f, "EventId({text})"))
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_str(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&Text::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_7_is_laid_out_as_the_standard_says() {
        let steps: [u8; 10] = std::array::from_fn(|n| 0xf0 + n as u8);
        for random in [[0; 10], [0xff; 10], steps] {
            for unix_ms in [0, 1, 1_764_000_000_123, (1 << 48) - 1] {
                let ours = EventId::v7(unix_ms, &random).to_string();
                let builder = uuid::Builder::from_unix_timestamp_millis(unix_ms, &random);
                assert_eq!(ours, builder.into_uuid().to_string());
            }
        }
    }

    #[test]
    fn every_text_comes_back_and_only_the_empty_one_is_no_id() {
        let nil = Uuid::nil().to_string();
        let ours = EventId::v7(1, &[7; 10]).to_string();
        for text in [nil.as_str(), &ours, &ours.to_uppercase(), "7", "", "a b"] {
            let id = EventId::parse(text);
            assert_eq!(id.to_string(), text);
            assert_eq!(id.is_absent(), text.is_empty());
            assert_eq!(id, id.clone());
        }
        assert_ne!(EventId::parse(&nil), EventId::ABSENT);
    }
}
