//! A message as a row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus_protocol::{Envelope, Subject, Timestamp};
use agentbus_transport::{Message, Priority, TransportError};
use bytes::Bytes;
use rusqlite::Row;

use crate::options::{Clock, millis};
use crate::transport::NAME;

/// What a query for messages selects, in the order that [`Stored::read`] expects.
pub(crate) const COLUMNS: &str = "seq, at_ms, priority, expires_ms, checksum, subject, envelope";

/// A message ready to be written. Encoded by its publisher, so that the one writer only writes.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) message: Arc<Message>,
    pub(crate) envelope: Vec<u8>,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) checksum: u32,
}

impl Record {
    pub(crate) fn new(message: Arc<Message>, clock: &Clock) -> Result<Self, TransportError> {
        let envelope = message.envelope.encode();
        if envelope.len() > ENVELOPE_BYTES_MAX {
            return Err(TransportError::TooLarge {
                transport: NAME,
                bytes: envelope.len(),
                limit: ENVELOPE_BYTES_MAX,
            });
        }
        let ttl = message.remaining_ttl();
        let expires_ms = ttl.map(|ttl| clock.now_ms().saturating_add(millis(ttl).max(1)));
        let priority = message.priority.number();
        let checksum = checksum(message.subject.as_str(), priority, &envelope);
        Ok(Self {
            message,
            envelope,
            expires_ms,
            checksum,
        })
    }
}

/// Covers what decides where a message goes and what it says.
fn checksum(subject: &str, priority: u8, envelope: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(subject.as_bytes());
    sum.update(&[0, priority]);
    sum.update(envelope);
    sum.finalize()
}

/// A row as it was read, before anything in it is believed.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    at_ms: i64,
    priority: i64,
    expires_ms: Option<i64>,
    checksum: i64,
    subject: String,
    envelope: Vec<u8>,
}

impl Stored {
    pub(crate) fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            seq: row.get(0)?,
            at_ms: row.get(1)?,
            priority: row.get(2)?,
            expires_ms: row.get(3)?,
            checksum: row.get(4)?,
            subject: row.get(5)?,
            envelope: row.get(6)?,
        })
    }

    /// The message, unless the row is not what was written.
    pub(crate) fn into_message(self, now_ms: i64) -> Option<Arc<Message>> {
        let number = u8::try_from(self.priority).ok()?;
        if i64::from(checksum(&self.subject, number, &self.envelope)) != self.checksum {
            return None;
        }
        let priority = Priority::ALL.into_iter().find(|it| it.number() == number)?;
        let subject = Subject::parse(&self.subject).ok()?;
        let at = Timestamp::from_unix_nanos(i128::from(self.at_ms) * 1_000_000);
        let envelope = Envelope::decode(&Bytes::from(self.envelope), at).ok()?;
        let mut message = Message::new(subject, envelope);
        message.priority = priority;
        message.expires_at = self.expires_ms.map(|at| instant(at, now_ms));
        Some(Arc::new(message))
    }
}

/// A wall-clock time as one of the monotonic clock.
fn instant(at_ms: i64, now_ms: i64) -> Instant {
    let left = u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0);
    let now = Instant::now();
    now.checked_add(Duration::from_millis(left)).unwrap_or(now)
}
