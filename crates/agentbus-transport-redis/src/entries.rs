//! Entries of a stream as the server answers with them.

use bytes::Bytes;
use redis::Value;

/// One entry.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) id: String,
    /// The message; `None` for a mere wake-up.
    pub(crate) data: Option<Bytes>,
    /// Its number in the log; 0 when it is in none.
    pub(crate) sequence: u64,
    pub(crate) attempt: u32,
    /// Why it comes again; empty when it is new.
    pub(crate) cause: String,
}

/// Reads the answer of `XREADGROUP` for one stream: `[[stream, [[id, fields] …]]]`.
pub(crate) fn fresh(value: Value) -> Vec<Entry> {
    let streams = sequence(value);
    let entries = streams.into_iter().flat_map(|stream| {
        let mut parts = sequence(stream);
        parts.pop().map(sequence).unwrap_or_default()
    });
    let read = entries.filter_map(|entry| {
        let mut parts = sequence(entry).into_iter();
        let mut entry = Entry {
            id: text(parts.next()?)?,
            attempt: 1,
            ..Entry::default()
        };
        entry.fill(parts.next()?);
        Some(entry)
    });
    read.collect()
}

/// Reads the answer of the claiming script: `[[id, attempt, cause, fields] …]`.
pub(crate) fn claimed(value: Value) -> Vec<Entry> {
    let read = sequence(value).into_iter().filter_map(|entry| {
        let mut parts = sequence(entry).into_iter();
        let mut entry = Entry {
            id: text(parts.next()?)?,
            attempt: number(parts.next()?),
            cause: text(parts.next()?)?,
            ..Entry::default()
        };
        entry.fill(parts.next()?);
        Some(entry)
    });
    read.collect()
}

/// Reads the answer of `XPENDING` with a range: entries and how often each was handed out.
pub(crate) fn pending(value: Value) -> Vec<(String, u32)> {
    let read = sequence(value).into_iter().filter_map(|entry| {
        let mut parts = sequence(entry).into_iter();
        Some((text(parts.next()?)?, number(parts.nth(2)?)))
    });
    read.collect()
}

impl Entry {
    fn fill(&mut self, fields: Value) {
        let mut fields = sequence(fields).into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            match (text(name).as_deref(), value) {
                (Some("d"), Value::BulkString(data)) => self.data = Some(data.into()),
                (Some("n"), value) => {
                    self.sequence = text(value).and_then(|text| text.parse().ok()).unwrap_or(0);
                }
                _ => {}
            }
        }
    }
}

fn sequence(value: Value) -> Vec<Value> {
    value.into_sequence().unwrap_or_default()
}

fn text(value: Value) -> Option<String> {
    redis::from_redis_value(value).ok()
}

fn number(value: Value) -> u32 {
    redis::from_redis_value(value).unwrap_or(0)
}
