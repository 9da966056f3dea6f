//! Opaque JSON bytes.

use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::jsonrpc::MAX_NESTING;

/// One JSON value as the bytes it was written in; never `null`, never empty.
///
/// The bus moves these bytes and does not look inside. They are valid JSON in UTF-8, and hold no line
/// break, so that a payload always fits on one line of NDJSON or of a server-sent event. Short ones
/// (up to 23 bytes) live in place, longer ones are shared by reference count.
#[derive(Clone)]
pub struct Payload(Repr);

#[derive(Clone)]
enum Repr {
    Short(Short),
    Shared(Bytes),
}

/// Bytes that are so few that copying them costs less than counting who has them.
#[derive(Clone, Copy)]
struct Short {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Short {
    /// So many that a payload is no larger for them.
    const MAX: usize = 23;

    fn new(short: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..short.len())?.copy_from_slice(short);
        let len = u8::try_from(short.len()).ok()?;
        Some(Self { len, bytes })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

/// Tells why bytes are no payload, or why a payload is not what the reader wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The value nests deeper than any reader here would follow.
    #[error("the payload nests deeper than {MAX_NESTING} levels")]
    TooDeep,
    /// The bytes are not one JSON value.
    #[error("the payload is not valid JSON: {0}")]
    Malformed(String),
    /// The value has no JSON form.
    #[error("the value cannot be written as JSON: {0}")]
    Unwritable(String),
    /// The payload is valid JSON of another shape.
    #[error("the payload has another shape than expected: {0}")]
    Mismatch(String),
    /// There is no payload.
    #[error("the envelope has no payload")]
    Absent,
}

/// What is kept of the buffer that values are written into, in bytes.
const WRITING_KEPT: usize = 16 * 1024;

thread_local! {
    /// Values are written here first, so that a payload is allocated once and in its final size.
    static WRITING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that are few enough to share an allocation with their count.
struct Few {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Few {
    /// So many that the allocation has 64 bytes.
    const MAX: usize = 55;

    fn new(few: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..few.len())?.copy_from_slice(few);
        let len = u8::try_from(few.len()).ok()?;
        Some(Self { bytes, len })
    }
}

impl AsRef<[u8]> for Few {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

impl Payload {
    /// Writes a value as JSON. A value that writes as `null` has no payload: `None`.
    ///
    /// # Errors
    /// Fails when the value has no JSON form.
    pub fn from_value(value: &(impl Serialize + ?Sized)) -> Result<Option<Self>, PayloadError> {
        // Taken, not borrowed: the value's own serializer may well write another payload.
        let mut buffer = WRITING.take();
        buffer.clear();
        let written = serde_json::to_writer(&mut buffer, value)
            .map_err(|error| PayloadError::Unwritable(error.to_string()))
            .map(|()| (buffer != b"null").then(|| Self::copied(&buffer)));
        buffer.shrink_to(WRITING_KEPT);
        WRITING.set(buffer);
        written
    }

    /// Short bytes stand in place, and a few more beside the count of those who share them; many
    /// have a place of their own, and are counted only once they are shared.
    fn copied(bytes: &[u8]) -> Self {
        if let Some(short) = Short::new(bytes) {
            return Self(Repr::Short(short));
        }
        Self(Repr::Shared(match Few::new(bytes) {
            Some(few) => Bytes::from_owner(few),
            None => Bytes::from(Box::<[u8]>::from(bytes)),
        }))
    }

    /// Writes a value that is known not to be `null`.
    ///
    /// # Errors
    /// Fails when the value has no JSON form, or is `null`.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self, PayloadError> {
        Self::from_value(value)?.ok_or(PayloadError::Absent)
    }

    /// Takes bytes that a peer sent. Blank bytes and `null` mean that there is no payload.
    ///
    /// # Errors
    /// Fails when the bytes are not exactly one JSON value in UTF-8.
    pub fn from_bytes(bytes: &Bytes) -> Result<Option<Self>, PayloadError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let raw: &RawValue = serde_json::from_slice(bytes)
            .map_err(|error| PayloadError::Malformed(error.to_string()))?;
        if nesting(raw.get().as_bytes()) > MAX_NESTING {
            return Err(PayloadError::TooDeep);
        }
        Ok(Self::within(bytes, raw))
    }

    /// Takes a value that a JSON reader found inside `bytes`, without a copy and without reading it
    /// again. `null` is no payload.
    ///
    /// Its nesting is not counted: whoever calls this has held the whole line to [`MAX_NESTING`],
    /// as [`scan`](crate::jsonrpc::scan) does.
    ///
    /// # Panics
    /// When the value lies outside of `bytes`.
    #[must_use]
    pub fn within(bytes: &Bytes, raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        if text == "null" {
            return None;
        }
        if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_some() {
            return Some(Self::copied(&without_blanks(text.as_bytes())));
        }
        // Short ones do not keep the rest of what came with them.
        let short = Short::new(text.as_bytes()).map(Repr::Short);
        let shared = || Repr::Shared(bytes.slice_ref(text.as_bytes()));
        Some(Self(short.unwrap_or_else(shared)))
    }

    /// How deep arrays and objects are nested; 0 for any other value.
    #[must_use]
    pub fn nesting(&self) -> usize {
        nesting(self.as_bytes())
    }

    /// Writes a text as a JSON string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::copied(serde_json::Value::from(text).to_string().as_bytes())
    }

    /// The JSON bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short(short) => short.as_bytes(),
            Repr::Shared(bytes) => bytes,
        }
    }

    /// The JSON bytes to keep; not copied unless they are short.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Short(short) => Bytes::copy_from_slice(short.as_bytes()),
            Repr::Shared(bytes) => bytes.clone(),
        }
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every constructor has seen UTF-8, so the fallback is never taken.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Reads the payload as `T`.
    ///
    /// # Errors
    /// Fails when the JSON has another shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        serde_json::from_slice(self.as_bytes())
            .map_err(|error| PayloadError::Mismatch(error.to_string()))
    }
}

/// The deepest nesting of valid JSON.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Drops the blanks between the tokens of valid JSON; those inside strings stay.
pub(crate) fn without_blanks(json: &[u8]) -> Vec<u8> {
    let mut compact = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        if in_string || !byte.is_ascii_whitespace() {
            compact.push(byte);
        }
        in_string = if in_string {
            escaped || byte != b'"'
        } else {
            byte == b'"'
        };
        escaped = in_string && !escaped && byte == b'\\';
    }
    compact
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Payload {}

impl Hash for Payload {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_limited_and_brackets_in_strings_do_not_count() {
        let nested =
            |depth: usize| Bytes::from(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert!(Payload::from_bytes(&nested(MAX_NESTING)).is_ok());
        assert_eq!(
            Payload::from_bytes(&nested(MAX_NESTING + 1)),
            Err(PayloadError::TooDeep)
        );
        let text = Bytes::from(format!(r#""\"{}""#, "[".repeat(500)));
        assert!(Payload::from_bytes(&text).is_ok());
    }

    #[test]
    fn few_bytes_and_many_are_written_and_shared_alike() {
        let around = |length: usize| length - 3..length;
        let lengths = [0, 1, 1000].into_iter();
        for length in lengths.chain(around(Short::MAX)).chain(around(Few::MAX)) {
            let text = "x".repeat(length);
            let payload = Payload::json(&text).unwrap();
            assert_eq!(payload.as_str(), format!("\"{text}\""));
            assert_eq!(payload.clone(), payload);
            assert_eq!(payload.as_bytes().len(), length + 2);
            assert_eq!(payload.to_bytes(), payload.as_bytes());
            let heard = Payload::from_bytes(&format!(" {} ", payload.as_str()).into());
            assert_eq!(heard, Ok(Some(payload)));
        }
    }
}
