//! Reading: one pass that leaves the payload where it lies in the input.
//!
//! There are two readers. The quick one knows what nearly every peer writes, and gives up at
//! anything else; then the tolerant one reads the same from the beginning, and says what is wrong.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::quick::{Members, Unusual};
use crate::envelope::{SCHEMA_VERSION, SPEC_VERSION};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::{
    ContextFields, DecodeError, Envelope, EventId, EventType, Metadata, Payload, Stamp, Text,
    Timestamp,
};

impl Envelope {
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
        let found = match std::str::from_utf8(bytes) {
            Ok(text) => match quick(text, received_at) {
                Ok(found) => Ok(found),
                Err(Unusual) => tolerant(Deserializer::from_str(text), received_at),
            },
            // Bytes that are no text may still be broken in a member that nobody reads.
            Err(_) => tolerant(Deserializer::from_slice(bytes), received_at),
        };
        let found = found.map_err(|error| DecodeError::Malformed(error.to_string()))?;
        found.into_envelope(bytes)
    }
}

/// Reads what nearly everybody writes.
fn quick(text: &str, received_at: Timestamp) -> Result<Found<'_>, Unusual> {
    let (mut members, mut found) = (Members::open(text)?, Found::new(received_at));
    while let Some(key) = members.next_key()? {
        found.read_field(Field::of(key), &mut members)?;
    }
    Ok(found)
}

/// Reads whatever may be read.
fn tolerant<'a>(
    mut json: Deserializer<impl serde_json::de::Read<'a>>,
    received_at: Timestamp,
) -> serde_json::Result<Found<'a>> {
    let mut found = Found::new(received_at);
    serde::Deserializer::deserialize_map(&mut json, Filling(&mut found))?;
    json.end()?;
    Ok(found)
}

/// The value that is read next, as what its key demands. `null` means that it is absent.
pub(super) trait Value<'a> {
    type Error;

    fn text(&mut self) -> Result<Cow<'a, str>, Self::Error>;
    fn version(&mut self) -> Result<Option<u32>, Self::Error>;
    /// Wide enough to tell a negative frame number from a too large one.
    fn seq(&mut self) -> Result<i128, Self::Error>;
    fn flag(&mut self) -> Result<bool, Self::Error>;
    fn raw(&mut self) -> Result<Option<&'a RawValue>, Self::Error>;
    fn metadata(&mut self) -> Result<Metadata, Self::Error>;
    fn skip(&mut self) -> Result<(), Self::Error>;
}

/// What was found so far: the envelope, and what has to be checked or is put in at the end.
struct Found<'a> {
    envelope: Envelope,
    context: ContextFields,
    occurred_at: Cow<'a, str>,
    seq: i128,
    payload: Option<&'a RawValue>,
}

impl<'a> Found<'a> {
    fn new(received_at: Timestamp) -> Self {
        let stamp = Stamp {
            event_id: EventId::ABSENT,
            occurred_at: received_at,
        };
        Self {
            envelope: Envelope::new(stamp, EventType::new("")),
            context: ContextFields::default(),
            occurred_at: Cow::Borrowed(""),
            seq: 0,
            payload: None,
        }
    }

    fn into_envelope(self, bytes: &Bytes) -> Result<Envelope, DecodeError> {
        let mut envelope = self.envelope;
        if !self.occurred_at.is_empty() {
            envelope.occurred_at = Timestamp::parse(&self.occurred_at)?;
        }
        envelope.seq = read_seq(self.seq)?;
        envelope.context = self.context.into();
        envelope.payload = self.payload.and_then(|raw| Payload::within(bytes, raw));
        Ok(envelope)
    }

    fn read_field<V: Value<'a>>(&mut self, field: Field, value: &mut V) -> Result<(), V::Error> {
        let envelope = &mut self.envelope;
        match field {
            Field::SpecVersion => {
                let version = value.text()?;
                let is_absent = version.is_empty();
                envelope.spec_version = Text::from(if is_absent { SPEC_VERSION } else { &version });
            }
            Field::SchemaVersion => {
                envelope.schema_version = value.version()?.unwrap_or(SCHEMA_VERSION);
            }
            Field::EventId => envelope.event_id = EventId::parse(&value.text()?),
            Field::EventType => envelope.event_type = EventType::new(Text::from(value.text()?)),
            Field::FrameType => envelope.frame_type = value.text()?.into(),
            Field::OccurredAt => self.occurred_at = value.text()?,
            Field::CorrelationId => envelope.correlation_id = EventId::parse(&value.text()?),
            Field::ReplyTo => envelope.reply_to = value.text()?.into(),
            Field::From => envelope.from = value.text()?.into(),
            Field::To => envelope.to = value.text()?.into(),
            Field::Seq => self.seq = value.seq()?,
            Field::IsFinal => envelope.is_final = value.flag()?,
            Field::Payload => self.payload = value.raw()?,
            Field::Metadata => envelope.metadata = value.metadata()?,
            Field::Context(of) => *of(&mut self.context) = value.text()?.into(),
            Field::Unknown => value.skip()?,
        }
        Ok(())
    }
}

/// Takes the members that the JSON library finds.
struct Filling<'f, 'a>(&'f mut Found<'a>);

impl<'a> Visitor<'a> for Filling<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with the fields of an envelope")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<Borrowed<'a>>()? {
            self.0
                .read_field(Field::of(&key.0), &mut Tolerant(&mut map))?;
        }
        Ok(())
    }
}

/// A value that the JSON library reads.
struct Tolerant<'m, M>(&'m mut M);

impl<'a, M: MapAccess<'a>> Tolerant<'_, M> {
    fn nullable<T: Deserialize<'a> + Default>(&mut self) -> Result<T, M::Error> {
        Ok(self.0.next_value::<Option<T>>()?.unwrap_or_default())
    }
}

impl<'a, M: MapAccess<'a>> Value<'a> for Tolerant<'_, M> {
    type Error = M::Error;

    fn text(&mut self) -> Result<Cow<'a, str>, M::Error> {
        Ok(self.nullable::<Borrowed<'a>>()?.0)
    }

    fn version(&mut self) -> Result<Option<u32>, M::Error> {
        self.0.next_value()
    }

    fn seq(&mut self) -> Result<i128, M::Error> {
        Ok(self.nullable::<SeqNumber>()?.0)
    }

    fn flag(&mut self) -> Result<bool, M::Error> {
        self.nullable()
    }

    fn raw(&mut self) -> Result<Option<&'a RawValue>, M::Error> {
        self.0.next_value()
    }

    fn metadata(&mut self) -> Result<Metadata, M::Error> {
        self.nullable()
    }

    fn skip(&mut self) -> Result<(), M::Error> {
        self.0.next_value::<IgnoredAny>().map(drop)
    }
}

/// The key of a member.
#[derive(Clone, Copy)]
enum Field {
    SpecVersion,
    SchemaVersion,
    EventId,
    EventType,
    FrameType,
    OccurredAt,
    CorrelationId,
    ReplyTo,
    From,
    To,
    Seq,
    IsFinal,
    Payload,
    Metadata,
    /// One of the context, by where its text is kept.
    Context(fn(&mut ContextFields) -> &mut Text),
    Unknown,
}

impl Field {
    fn of(key: &str) -> Self {
        match key {
            "spec_version" => Self::SpecVersion,
            "schema_version" => Self::SchemaVersion,
            "event_id" => Self::EventId,
            "event_type" => Self::EventType,
            "frame_type" => Self::FrameType,
            "occurred_at" => Self::OccurredAt,
            "correlation_id" => Self::CorrelationId,
            "reply_to" => Self::ReplyTo,
            "from" => Self::From,
            "to" => Self::To,
            "seq" => Self::Seq,
            "is_final" => Self::IsFinal,
            "payload" => Self::Payload,
            "metadata" => Self::Metadata,
            "trace_id" => Self::Context(|context| &mut context.trace_id),
            "span_id" => Self::Context(|context| &mut context.span_id),
            "traceparent" => Self::Context(|context| &mut context.traceparent),
            "session_id" => Self::Context(|context| &mut context.session_id),
            "conversation_id" => Self::Context(|context| &mut context.conversation_id),
            "channel" => Self::Context(|context| &mut context.channel),
            "tenant_id" => Self::Context(|context| &mut context.tenant_id),
            "user_id" => Self::Context(|context| &mut context.user_id),
            _ => Self::Unknown,
        }
    }
}

/// A text that lies in the input, unless it has escapes.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

fn read_seq(seq: i128) -> Result<u64, DecodeError> {
    u64::try_from(seq).map_err(|_| DecodeError::NegativeSeq(i64::try_from(seq).unwrap_or(i64::MIN)))
}

#[derive(Default)]
struct SeqNumber(i128);

impl<'de> Deserialize<'de> for SeqNumber {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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

#[cfg(test)]
mod tests;
