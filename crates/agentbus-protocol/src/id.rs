//! Identifiers of envelopes.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::Text;

/// Identifies one envelope; in a reply's `correlation_id`, the request it answers.
///
/// Ours are UUIDv7. Peers may send any text and expect exactly that text back as correlation id,
/// so whatever is not a lower-case hyphenated UUID is kept as it came.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EventId(Repr);

#[derive(Clone, PartialEq, Eq, Hash, Default)]
enum Repr {
    #[default]
    Absent,
    Uuid(Uuid),
    Text(Text),
}

impl EventId {
    /// The id that is not there.
    pub const ABSENT: Self = Self(Repr::Absent);

    /// Makes a UUIDv7 from Unix time in milliseconds and 80 random bits (RFC 9562, section 5.7).
    #[must_use]
    pub fn v7(unix_ms: u64, random: &[u8; 10]) -> Self {
        let uuid = uuid::Builder::from_unix_timestamp_millis(unix_ms, random).into_uuid();
        Self(Repr::Uuid(uuid))
    }

    /// Reads an id from its wire text; empty text is the absent id.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            return Self::ABSENT;
        }
        match canonical_uuid(text) {
            Some(uuid) => Self(Repr::Uuid(uuid)),
            None => Self(Repr::Text(Text::from(text))),
        }
    }

    /// Whether there is no id.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self.0, Repr::Absent)
    }

    /// Calls `read` with the wire text, without allocating it.
    pub fn with_str<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        match &self.0 {
            Repr::Absent => read(""),
            Repr::Uuid(uuid) => read(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Repr::Text(text) => read(text),
        }
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
