//! The JSON form of an envelope: strict when writing, tolerant when reading.
//!
//! Writing is by hand because the payload is already JSON and must go out as the bytes it is;
//! reading is one pass that leaves the payload where it lies in the input.

use std::fmt;

use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::envelope::{SCHEMA_VERSION, SPEC_VERSION};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::{
    ContextFields, Envelope, ErrorCode, EventId, EventType, Metadata, Payload, Stamp, Text,
    Timestamp, TimestampError,
};

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

impl Envelope {
    /// Writes the envelope as compact JSON in UTF-8.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let payload_bytes = self
            .payload
            .as_ref()
            .map_or(0, |payload| payload.bytes().len());
        // The fields around the payload take 250 to 600 bytes in practice.
        let mut out = Vec::with_capacity(512 + payload_bytes);
        self.encode_into(&mut out);
        out
    }

    /// Appends the JSON form to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::begin(out);
        object.text_always("spec_version", &self.spec_version);
        object.raw("schema_version", &self.schema_version);
        self.event_id
            .with_str(|id| object.text_always("event_id", id));
        object.text_always("event_type", self.event_type.as_str());
        object.text("frame_type", &self.frame_type);
        object.raw_quoted("occurred_at", &self.occurred_at);
        self.encode_context(&mut object);
        object.text("reply_to", &self.reply_to);
        object.text("from", &self.from);
        object.text("to", &self.to);
        if self.seq != 0 {
            object.raw("seq", &self.seq);
        }
        if self.is_final {
            object.raw("is_final", &true);
        }
        if let Some(payload) = &self.payload {
            object.raw_bytes("payload", payload.bytes());
        }
        if !self.metadata.is_empty() {
            object.json("metadata", &self.metadata);
        }
        object.end();
    }

    fn encode_context(&self, object: &mut ObjectWriter<'_>) {
        let context = &*self.context;
        object.text("trace_id", &context.trace_id);
        object.text("span_id", &context.span_id);
        object.text("traceparent", &context.traceparent);
        object.text("session_id", &context.session_id);
        object.text("conversation_id", &context.conversation_id);
        self.correlation_id
            .with_str(|id| object.text("correlation_id", id));
        object.text("channel", &context.channel);
        object.text("tenant_id", &context.tenant_id);
        object.text("user_id", &context.user_id);
    }

    /// Reads an envelope. The payload stays in `bytes`, shared by reference count.
    ///
    /// `received_at` stands in for a missing `occurred_at`. Unknown keys are ignored, `null` means
    /// absent, and of repeated keys the last wins.
    ///
    /// # Errors
    /// Fails on anything but a JSON object whose known fields have the right types.
    pub fn decode(bytes: &Bytes, received_at: Timestamp) -> Result<Self, DecodeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(DecodeError::TooLarge { bytes: bytes.len() });
        }
        let fields: Fields<'_> = serde_json::from_slice(bytes)
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
        fields.into_envelope(bytes, received_at)
    }
}

/// Appends members of one JSON object to a buffer.
struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    separator: u8,
}

impl<'a> ObjectWriter<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            separator: b'{',
        }
    }

    fn key(&mut self, key: &str) {
        self.out.push(self.separator);
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.separator = b',';
    }

    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text_always(key, value);
        }
    }

    fn text_always(&mut self, key: &str, value: &str) {
        self.json(key, value);
    }

    fn json(&mut self, key: &str, value: &(impl serde::Serialize + ?Sized)) {
        self.key(key);
        // Writing text, or JSON that was read before, into memory cannot fail.
        let _ = serde_json::to_writer(&mut *self.out, value);
    }

    fn raw(&mut self, key: &str, value: &impl fmt::Display) {
        use std::io::Write as _;
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    fn raw_quoted(&mut self, key: &str, value: &impl fmt::Display) {
        use std::io::Write as _;
        self.key(key);
        let _ = write!(self.out, "\"{value}\"");
    }

    fn raw_bytes(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(value);
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

/// The fields as they were found, before they are checked.
#[derive(Default)]
struct Fields<'a> {
    spec_version: Text,
    schema_version: Option<u32>,
    event_id: EventId,
    event_type: Text,
    frame_type: Text,
    occurred_at: Text,
    context: ContextFields,
    correlation_id: EventId,
    reply_to: Text,
    from: Text,
    to: Text,
    seq: i128,
    is_final: bool,
    payload: Option<&'a RawValue>,
    metadata: Metadata,
}

impl Fields<'_> {
    fn into_envelope(self, bytes: &Bytes, received_at: Timestamp) -> Result<Envelope, DecodeError> {
        let occurred_at = match self.occurred_at.as_str() {
            "" => received_at,
            text => Timestamp::parse(text)?,
        };
        let stamp = Stamp {
            event_id: self.event_id,
            occurred_at,
        };
        let mut envelope = Envelope::new(stamp, EventType::new(self.event_type));
        if !self.spec_version.is_empty() && self.spec_version != SPEC_VERSION {
            envelope.spec_version = self.spec_version;
        }
        envelope.schema_version = self.schema_version.unwrap_or(SCHEMA_VERSION);
        envelope.frame_type = self.frame_type;
        envelope.context = self.context.into();
        envelope.correlation_id = self.correlation_id;
        envelope.reply_to = self.reply_to;
        envelope.from = self.from;
        envelope.to = self.to;
        envelope.seq = read_seq(self.seq)?;
        envelope.is_final = self.is_final;
        envelope.payload = self.payload.and_then(|raw| Payload::within(bytes, raw));
        envelope.metadata = self.metadata;
        Ok(envelope)
    }
}

fn read_seq(seq: i128) -> Result<u64, DecodeError> {
    u64::try_from(seq).map_err(|_| DecodeError::NegativeSeq(i64::try_from(seq).unwrap_or(i64::MIN)))
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with the fields of an envelope")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Text>()? {
            read_field(&mut fields, &key, &mut map)?;
        }
        Ok(fields)
    }
}

fn read_field<'de, M: MapAccess<'de>>(
    fields: &mut Fields<'de>,
    key: &str,
    map: &mut M,
) -> Result<(), M::Error> {
    match key {
        "spec_version" => fields.spec_version = nullable(map)?,
        "schema_version" => fields.schema_version = map.next_value()?,
        "event_id" => fields.event_id = nullable(map)?,
        "event_type" => fields.event_type = nullable(map)?,
        "frame_type" => fields.frame_type = nullable(map)?,
        "occurred_at" => fields.occurred_at = nullable(map)?,
        "correlation_id" => fields.correlation_id = nullable(map)?,
        "reply_to" => fields.reply_to = nullable(map)?,
        "from" => fields.from = nullable(map)?,
        "to" => fields.to = nullable(map)?,
        "seq" => fields.seq = nullable::<_, SeqNumber>(map)?.0,
        "is_final" => fields.is_final = nullable(map)?,
        "payload" => fields.payload = map.next_value()?,
        "metadata" => fields.metadata = nullable(map)?,
        _ => read_context_field(&mut fields.context, key, map)?,
    }
    Ok(())
}

fn read_context_field<'de, M: MapAccess<'de>>(
    context: &mut ContextFields,
    key: &str,
    map: &mut M,
) -> Result<(), M::Error> {
    let field = match key {
        "trace_id" => &mut context.trace_id,
        "span_id" => &mut context.span_id,
        "traceparent" => &mut context.traceparent,
        "session_id" => &mut context.session_id,
        "conversation_id" => &mut context.conversation_id,
        "channel" => &mut context.channel,
        "tenant_id" => &mut context.tenant_id,
        "user_id" => &mut context.user_id,
        _ => return map.next_value::<IgnoredAny>().map(drop),
    };
    *field = nullable(map)?;
    Ok(())
}

/// Reads a value of which `null` means the default.
fn nullable<'de, M: MapAccess<'de>, T>(map: &mut M) -> Result<T, M::Error>
where
    T: Deserialize<'de> + Default,
{
    Ok(map.next_value::<Option<T>>()?.unwrap_or_default())
}

/// A whole number wide enough to tell a negative frame number from a too large one.
#[derive(Default)]
struct SeqNumber(i128);

impl<'de> Deserialize<'de> for SeqNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeqVisitor)
    }
}

struct SeqVisitor;

impl Visitor<'_> for SeqVisitor {
    type Value = SeqNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 to 2^64-1 for `seq`")
    }

    fn visit_u64<E>(self, seq: u64) -> Result<SeqNumber, E> {
        Ok(SeqNumber(seq.into()))
    }

    fn visit_i64<E>(self, seq: i64) -> Result<SeqNumber, E> {
        Ok(SeqNumber(seq.into()))
    }
}
