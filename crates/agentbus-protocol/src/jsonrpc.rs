//! Finds the routing fields of one JSON-RPC line without parsing the rest of it.
//!
//! **What it is for.** A router has to know where a line goes; it has no interest in what the line
//! says. [`scan`] reads the *top level* of one JSON object, remembers `id`, `method`, `sessionId`,
//! `pool`, `agentId`, whether `result` or `error` is there and where `_ext` is, and jumps over
//! everything else.
//!
//! **What it promises.** One pass in linear time whatever the bytes are; no panic, no recursion, and
//! no allocation unless a routing string holds an escape. The top level is held to the JSON grammar,
//! so a line that was cut off, that has bytes after its object or that nests deeper than
//! [`MAX_NESTING`] is refused. Keys are compared after unescaping: `"\u0069d"` is `id`.
//!
//! **What it does not do.** It does not validate nested values: inside them only strings are
//! recognised and brackets counted, so `{"params":[tru]}` passes and is the receiver's to refuse.
//! It does not look at the content of strings it does not return: bad UTF-8 or a bad escape is an
//! error only in a routing field. It does not check `jsonrpc`, and it knows no batches.
//!
//! **What may surprise.** A nested field never routes: `params.sessionId` is payload. Of duplicate
//! keys the last one wins, also when its type makes it useless: `"pool":"a","pool":7` has no pool.
//! An empty `method`, `sessionId`, `pool` or `agentId` counts as absent, and so does one that is not
//! a string; an empty `id` is an id.

use std::borrow::Cow;
use std::ops::Range;

use thiserror::Error;

mod block;
mod cursor;
mod skip;
#[cfg(test)]
mod tests;

use cursor::Cursor;
use cursor::Value;
use cursor::ValueKind;

/// Deepest nesting a line may have, the outermost object counted as one.
///
/// The scanner itself needs no limit, it only counts. The receivers do: this is the depth up to
/// which `serde_json` parses, so nothing is forwarded that our own side could not read.
pub const MAX_NESTING: usize = 127;

/// Longest raw key, without its quotes, that can still spell a routing key.
///
/// `sessionId` has nine characters and an escape takes at most six bytes for one of them. A longer
/// key cannot match, so it is not worth unescaping.
const LONGEST_ESCAPED_KEY: usize = 9 * 6;

/// Why a line cannot be routed. Offsets count bytes from the start of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScanError {
    /// The line does not start with an object; empty and blank lines belong here.
    #[error("the line is not a JSON object (byte {offset})")]
    NotAnObject {
        /// Where the opening brace was expected.
        offset: usize,
    },
    /// The line ends before its object does.
    #[error("the line ends inside its JSON object")]
    Truncated,
    /// A byte that the JSON grammar does not allow at this place of the top level.
    #[error("unexpected byte in the JSON object (byte {offset})")]
    UnexpectedByte {
        /// Where the byte is.
        offset: usize,
    },
    /// A routing string holds a bad escape, half a surrogate pair or a bare control character.
    #[error("a routing field is not a valid JSON string (byte {offset})")]
    BrokenString {
        /// Where the opening quote of the string is.
        offset: usize,
    },
    /// A routing field is not UTF-8. Elsewhere in the line this goes unnoticed.
    #[error("a routing field is not valid UTF-8 (byte {offset})")]
    InvalidUtf8 {
        /// Where the field's value starts.
        offset: usize,
    },
    /// Something other than white space follows the object.
    #[error("bytes follow the JSON object (byte {offset})")]
    TrailingBytes {
        /// Where the first of them is.
        offset: usize,
    },
    /// The line nests deeper than [`MAX_NESTING`].
    #[error("the line nests deeper than {MAX_NESTING} levels (byte {offset})")]
    TooDeep {
        /// Where the bracket is that goes one level too deep.
        offset: usize,
    },
}

/// The JSON type an id was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdKind {
    /// A string, as most libraries send.
    String,
    /// A number, kept as its literal text: `1`, `1.0` and a number of thirty digits stay distinct.
    Number,
    /// `null`, the id of an answer to a request nobody could read.
    Null,
    /// A boolean, an array or an object. JSON-RPC forbids them; their raw text still correlates.
    Other,
}

/// The `id` of a message: what it says, how it was written and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id<'a> {
    /// The JSON type on the wire, to be given back unchanged in the answer.
    pub kind: IdKind,
    /// The unescaped content of a string, else the literal text.
    ///
    /// `1` and `"1"` therefore have equal texts, which lets a worker answer with the wrong type.
    pub text: Cow<'a, str>,
    /// The bytes of the value in the line, quotes included, so that another id can be spliced in.
    ///
    /// With duplicate keys this is the last one; the earlier ones stay in the line.
    pub span: Range<usize>,
}

/// What a message is in JSON-RPC, judged by its top-level fields alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Has a method and an id: an answer is owed.
    Request,
    /// Has a method and no id: nobody will answer.
    Notification,
    /// Has an id and a result or an error, whatever else it has.
    Response,
    /// None of the three. What to do with it is the router's decision.
    Invalid,
}

/// The routing fields of one line, borrowed from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing<'a> {
    /// The `id`, of any JSON type; `None` only if the key is missing.
    pub id: Option<Id<'a>>,
    /// The `method`, if it is a string and not empty.
    pub method: Option<Cow<'a, str>>,
    /// The `sessionId`, if it is a string and not empty.
    pub session_id: Option<Cow<'a, str>>,
    /// The `pool`, if it is a string and not empty.
    pub pool: Option<Cow<'a, str>>,
    /// The `agentId`, if it is a string and not empty.
    pub agent_id: Option<Cow<'a, str>>,
    /// Where the value of `result` stands in the line, if the key is there; it is not looked into.
    pub result: Option<Range<usize>>,
    /// The same of `error`.
    pub error: Option<Range<usize>>,
    /// Where the value of `_ext` stands in the line, if the key is there; it is not looked into.
    pub extensions: Option<Range<usize>>,
}

impl Routing<'_> {
    /// Classifies the message.
    ///
    /// A result or an error decides before a method does, because old peers send
    /// `"error":null` next to `"result"` and some echo the method.
    #[must_use]
    pub fn kind(&self) -> MessageKind {
        let answers = self.result.is_some() || self.error.is_some();
        match (self.id.is_some(), answers, self.method.is_some()) {
            (true, true, _) => MessageKind::Response,
            (true, false, true) => MessageKind::Request,
            (false, false, true) => MessageKind::Notification,
            (false, true, _) | (_, false, false) => MessageKind::Invalid,
        }
    }

    /// Returns where the id's value stands in the line, quotes included.
    #[must_use]
    pub fn id_span(&self) -> Option<Range<usize>> {
        self.id.as_ref().map(|id| id.span.clone())
    }
}

/// Finds the routing fields at the top level of `line`.
///
/// White space around the object is allowed, so the carriage return of a `\r\n` does no harm.
///
/// ```
/// use agentbus_protocol::jsonrpc::{MessageKind, scan};
///
/// let line = br#"{"jsonrpc":"2.0","id":7,"method":"m","params":{"id":8},"sessionId":"s"}"#;
/// let routing = scan(line)?;
///
/// assert_eq!(routing.kind(), MessageKind::Request);
/// assert_eq!(routing.session_id.as_deref(), Some("s"));
/// assert_eq!(routing.id_span(), Some(22..23));
/// # Ok::<(), agentbus_protocol::jsonrpc::ScanError>(())
/// ```
///
/// # Errors
///
/// Returns a [`ScanError`] if the line is not exactly one JSON object at its top level, or if a
/// routing string cannot be read.
pub fn scan(line: &[u8]) -> Result<Routing<'_>, ScanError> {
    let mut cursor = Cursor::enter(line)?;
    let mut found = Found::default();
    while let Some(key) = cursor.next_key()? {
        let value = cursor.value()?;
        if let Some(slot) = found.slot(key.bytes, key.plain) {
            *slot = Some(value);
        }
    }
    cursor.finish()?;
    found.decode(line)
}

/// The last value seen for each routing key. Nothing is decoded before the whole line was walked,
/// because of duplicates only the last one counts and may be refused.
#[derive(Debug, Default)]
struct Found {
    id: Option<Value>,
    method: Option<Value>,
    session_id: Option<Value>,
    pool: Option<Value>,
    agent_id: Option<Value>,
    result: Option<Value>,
    error: Option<Value>,
    extensions: Option<Value>,
}

impl Found {
    /// Returns the place for the value of this key, or `None` if the key does not route.
    #[inline]
    fn slot(&mut self, key: &[u8], plain: bool) -> Option<&mut Option<Value>> {
        if !plain {
            return self.slot_of_escaped(key);
        }
        match key {
            b"id" => Some(&mut self.id),
            b"method" => Some(&mut self.method),
            b"sessionId" => Some(&mut self.session_id),
            b"pool" => Some(&mut self.pool),
            b"agentId" => Some(&mut self.agent_id),
            b"result" => Some(&mut self.result),
            b"error" => Some(&mut self.error),
            b"_ext" => Some(&mut self.extensions),
            _ => None,
        }
    }

    /// Unescapes a key before comparing it. A key that cannot be unescaped is not ours to judge.
    #[cold]
    fn slot_of_escaped(&mut self, key: &[u8]) -> Option<&mut Option<Value>> {
        if key.len() > LONGEST_ESCAPED_KEY {
            return None;
        }
        let quoted = [b"\"", key, b"\""].concat();
        let plain: String = serde_json::from_slice(&quoted).ok()?;
        self.slot(plain.as_bytes(), true)
    }

    fn decode<'a>(&self, line: &'a [u8]) -> Result<Routing<'a>, ScanError> {
        let id = self.id.as_ref();
        let span = |value: &Option<Value>| value.as_ref().map(|value| value.span.clone());
        Ok(Routing {
            id: id.map(|value| decode_id(line, value)).transpose()?,
            method: routing_text(line, self.method.as_ref())?,
            session_id: routing_text(line, self.session_id.as_ref())?,
            pool: routing_text(line, self.pool.as_ref())?,
            agent_id: routing_text(line, self.agent_id.as_ref())?,
            result: span(&self.result),
            error: span(&self.error),
            extensions: span(&self.extensions),
        })
    }
}

fn decode_id<'a>(line: &'a [u8], value: &Value) -> Result<Id<'a>, ScanError> {
    let kind = match value.kind {
        ValueKind::String { .. } => IdKind::String,
        ValueKind::Number => IdKind::Number,
        ValueKind::Null => IdKind::Null,
        ValueKind::Boolean | ValueKind::Container => IdKind::Other,
    };
    let text = match value.kind {
        ValueKind::String { plain } => string_text(line, &value.span, plain)?,
        _ => Cow::Borrowed(utf8(line, &value.span)?),
    };
    Ok(Id {
        kind,
        text,
        span: value.span.clone(),
    })
}

/// Returns the text of a routing string; other types and the empty string count as absent.
#[inline]
fn routing_text<'a>(
    line: &'a [u8],
    value: Option<&Value>,
) -> Result<Option<Cow<'a, str>>, ScanError> {
    let Some(Value {
        kind: ValueKind::String { plain },
        span,
    }) = value
    else {
        return Ok(None);
    };
    let text = string_text(line, span, *plain)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Returns the content of the quoted string at `span`, borrowed unless it has to be unescaped.
fn string_text<'a>(
    line: &'a [u8],
    span: &Range<usize>,
    plain: bool,
) -> Result<Cow<'a, str>, ScanError> {
    let quoted = utf8(line, span)?;
    let text = quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default();
    let broken = ScanError::BrokenString { offset: span.start };
    if plain {
        return Ok(Cow::Borrowed(text));
    }
    if memchr::memchr(b'\\', text.as_bytes()).is_some() {
        return serde_json::from_str(quoted)
            .map(Cow::Owned)
            .map_err(|_| broken);
    }
    // Without a branch that could end it early, so that the compiler takes many bytes at a time.
    let has_control = text.bytes().fold(false, |has, byte| has | (byte < b' '));
    match has_control {
        true => Err(broken),
        false => Ok(Cow::Borrowed(text)),
    }
}

#[inline]
fn utf8<'a>(line: &'a [u8], span: &Range<usize>) -> Result<&'a str, ScanError> {
    let bytes = line.get(span.clone()).unwrap_or_default();
    std::str::from_utf8(bytes).map_err(|_| ScanError::InvalidUtf8 { offset: span.start })
}
