//! How an envelope lies in a message of AMB, for carriers that share a broker with its peers.
//!
//! One JSON object is both an envelope and a message of AMB: the two share `payload`,
//! `correlation_id`, `reply_to`, `trace_id`, `span_id` and `metadata`, and each ignores what only
//! the other knows. So an AMB peer on the same topic reads what we write, and what it writes
//! becomes an envelope here.
//!
//! AMB's payload is always an object. One that is not is written as `{"value":…}`, marked by
//! `wrapped`, and unwrapped by its bytes, so what arrives is what was sent.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use agentbus_protocol::codec::write_text;
use agentbus_protocol::jsonrpc::MAX_NESTING;
use agentbus_protocol::{
    DecodeError, Envelope, ErrorCode, ErrorPayload, EventId, EventType, Metadata, Pattern, Payload,
    Stamp, Subject, SubjectError, Timestamp,
};
use bytes::Bytes;
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::stamp;
use crate::clock::{instant_at, millis, unix_millis, unix_millis_in};
use crate::{Message, Priority};

/// Topics that one URL may name; every event is compared with each.
pub const TOPICS_MAX: usize = 64;

/// Reads what `amb=` of a URL says: `off`, which is `None`, `on`, or the topics of AMB peers that
/// are event types of the bus, with commas between.
///
/// # Errors
/// Fails with a sentence that says what is wrong.
pub fn topics(value: &str) -> Result<Option<Vec<Pattern>>, String> {
    if let "on" | "off" = value {
        return Ok((value == "on").then(Vec::new));
    }
    let mut topics = Vec::new();
    for topic in value.split(',') {
        let topic = Pattern::parse(topic).map_err(|error| {
            format!(
                "`amb={value}` is not understood; amb is on, off, or topics such as orders,fraud.>: {error}"
            )
        })?;
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    if topics.len() > TOPICS_MAX {
        let count = topics.len();
        return Err(format!(
            "`amb` names {count} topics, and {TOPICS_MAX} are the most; `orders.>` stands for all that begin with `orders.`"
        ));
    }
    Ok(Some(topics))
}

/// What stands before and after a payload that is no object.
const WRAP: (&[u8], &[u8]) = (b"{\"value\":", b"}");

/// Something one transport tells another about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The inbox that a reply was sent to is closed.
    Gone,
    /// Whoever had the request will not answer it. The rest is an error reply, so that peers who
    /// do not know this key understand it as well.
    Lost,
}

impl Notice {
    const fn text(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Lost => "lost",
        }
    }
}

/// What an envelope cannot say, beside the message itself.
#[derive(Debug, Default)]
pub struct Extra<'a> {
    /// What it says about a call.
    pub notice: Option<Notice>,
    /// The client whose inbox hears that the inbox of this reply is closed.
    pub replier: Option<&'a str>,
}

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// The message.
    pub message: Message,
    /// What it says about a call.
    pub notice: Option<Notice>,
    /// The client that hears when the inbox of this reply is closed.
    pub replier: Option<String>,
}

/// Why bytes cannot be handed out as a message.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its topic cannot be a subject.
    #[error("its topic is no subject: {0}")]
    Subject(#[from] SubjectError),
    /// It says that it is an envelope, and is none.
    #[error("{0}")]
    Envelope(#[from] DecodeError),
    /// It is no JSON object, or lacks what a message must have.
    #[error("it is no JSON object of a message: {0}")]
    Json(#[from] serde_json::Error),
}

/// The keys beside the envelope.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(default)]
    spec_version: Option<IgnoredAny>,
    #[serde(default)]
    priority: Lane,
    #[serde(default)]
    expires_at: Option<u64>,
    #[serde(default)]
    wrapped: bool,
    #[serde(default)]
    notice: Option<Notice>,
    #[serde(default)]
    replier: Option<String>,
}

/// A priority as AMB writes it now, a number, or as its first version did, a name. Any other is
/// the usual one.
#[derive(Default)]
struct Lane(Priority);

impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LaneVisitor)
    }
}

struct LaneVisitor;

impl Visitor<'_> for LaneVisitor {
    type Value = Lane;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number or the name of a priority")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Lane, E> {
        let lane = Priority::ALL
            .iter()
            .find(|lane| u64::from(lane.number()) == number);
        Ok(Lane(lane.copied().unwrap_or_default()))
    }

    fn visit_str<E>(self, name: &str) -> Result<Lane, E> {
        Ok(Lane(Priority::parse(name).unwrap_or_default()))
    }

    fn visit_unit<E>(self) -> Result<Lane, E> {
        Ok(Lane::default())
    }
}

/// A message of a peer that knows no envelopes.
#[derive(Deserialize)]
struct Foreign<'a> {
    id: String,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    sender: Option<String>,
    #[serde(default)]
    correlation_id: Option<String>,
    #[serde(default)]
    reply_to: Option<String>,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default, alias = "ttl_seconds")]
    ttl: Option<f64>,
    #[serde(default)]
    trace_id: Option<String>,
    #[serde(default)]
    span_id: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

/// Writes a message.
#[must_use]
pub fn encode(message: &Message, extra: &Extra<'_>) -> Vec<u8> {
    let envelope = &message.envelope;
    let mut out =
        Vec::with_capacity(768 + envelope.payload.as_ref().map_or(0, |p| p.as_bytes().len()));
    out.push(b'{');
    envelope.event_id.with_str(|id| text(&mut out, "id", id));
    text(&mut out, "topic", message.subject.as_str());
    raw(&mut out, "priority", message.priority.number());
    if !envelope.from.is_empty() {
        text(&mut out, "sender", &envelope.from);
    }
    let time = envelope.occurred_at;
    time.with_str(|time| text(&mut out, "timestamp", time));
    if let Some(left) = message.remaining_ttl() {
        raw(&mut out, "ttl", amb_ttl(envelope, left));
        raw(&mut out, "expires_at", unix_millis_in(left));
    }
    if let Some(notice) = extra.notice {
        text(&mut out, "notice", notice.text());
    }
    if let Some(replier) = extra.replier {
        text(&mut out, "replier", replier);
    }
    let (before, after) = match is_wrapped(envelope) {
        true => {
            raw(&mut out, "wrapped", true);
            WRAP
        }
        false => (&b""[..], &b""[..]),
    };
    // The brace that opens the envelope takes the place of the last comma, and becomes it.
    out.pop();
    let brace = out.len();
    envelope.encode_around(&mut out, before, after);
    out[brace] = b',';
    out
}

/// Writes the answer to a request that nobody will answer: an error reply, which any peer
/// understands, marked for those who know the difference.
#[must_use]
pub fn encode_lost(request: &Envelope, inbox: Subject) -> Vec<u8> {
    let error = ErrorPayload::new(
        ErrorCode::AgentUnavailable,
        "the agent that had the request has gone; try again",
    );
    let reply = request.error_reply(stamp(), request.to.clone(), &error);
    let extra = Extra {
        notice: Some(Notice::Lost),
        replier: None,
    };
    encode(&Message::new(inbox, reply), &extra)
}

/// Writes the notice that tells a replier that its inbox is closed. The carrier itself would tell
/// it only when the whole connection is gone.
#[must_use]
pub fn encode_gone(inbox: Subject) -> Vec<u8> {
    let message = Message::new(inbox, Envelope::new(stamp(), EventType::from("inbox.gone")));
    let extra = Extra {
        notice: Some(Notice::Gone),
        replier: None,
    };
    encode(&message, &extra)
}

/// AMB counts whole seconds from `timestamp`; rounded up, because we check the exact time.
fn amb_ttl(envelope: &Envelope, left: Duration) -> u64 {
    let expires = u128::from(unix_millis()) + left.as_millis();
    let since = expires.saturating_sub(u128::from(envelope.occurred_at.unix_millis()));
    u64::try_from(since.div_ceil(1000)).unwrap_or(u64::MAX)
}

/// Whether the payload is written as the value of an object. One that would be nested too deep
/// within it stays as it is.
fn is_wrapped(envelope: &Envelope) -> bool {
    let payload = envelope.payload.as_ref();
    payload.is_some_and(|payload| match payload.as_bytes().first() {
        Some(b'{') => false,
        Some(b'[') => payload.nesting() < MAX_NESTING,
        _ => true,
    })
}

fn unwrap(payload: &Payload) -> Option<Payload> {
    let bytes = payload.to_bytes();
    let inner = bytes.len().checked_sub(WRAP.1.len())?;
    let inner = bytes.slice(WRAP.0.len().min(inner)..inner);
    Payload::from_bytes(&inner).ok()?
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    write_text(out, value);
    out.push(b',');
}

fn raw(out: &mut Vec<u8>, name: &str, value: impl Serialize) {
    key(out, name);
    // Writing a number into memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, &value);
    out.push(b',');
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Reads a message.
///
/// # Errors
/// Fails when the bytes are neither an envelope nor a message of AMB.
pub fn decode(bytes: &Bytes) -> Result<Read, Unreadable> {
    let head: Head<'_> = serde_json::from_slice(bytes)?;
    let subject = Subject::parse(&head.topic)?;
    read(bytes, head, subject)
}

/// Reads a message whose subject the carrier has told, whatever it calls its topic itself.
///
/// # Errors
/// Fails when the bytes are neither an envelope nor a message of AMB.
pub fn decode_at(bytes: &Bytes, subject: Subject) -> Result<Read, Unreadable> {
    read(bytes, serde_json::from_slice(bytes)?, subject)
}

fn read(bytes: &Bytes, head: Head<'_>, subject: Subject) -> Result<Read, Unreadable> {
    let (envelope, expires_at) = if head.spec_version.is_some() {
        (ours(bytes, head.wrapped)?, head.expires_at)
    } else {
        foreign(bytes, &head.topic)?
    };
    let mut message = Message::new(subject, envelope);
    message.priority = head.priority.0;
    message.expires_at = expires_at.map(instant_at);
    Ok(Read {
        message,
        notice: head.notice,
        replier: head.replier,
    })
}

fn ours(bytes: &Bytes, wrapped: bool) -> Result<Envelope, Unreadable> {
    let received_at = Timestamp::from_system_time(SystemTime::now());
    let mut envelope = Envelope::decode(bytes, received_at)?;
    if wrapped {
        envelope.payload = envelope.payload.as_ref().and_then(unwrap);
    }
    Ok(envelope)
}

/// Makes an envelope of a message that has none; returns when it expires too.
fn foreign(bytes: &Bytes, topic: &str) -> Result<(Envelope, Option<u64>), Unreadable> {
    let read: Foreign<'_> = serde_json::from_slice(bytes)?;
    let said = read
        .timestamp
        .as_deref()
        .and_then(|text| Timestamp::parse(text).ok());
    let occurred_at = said.unwrap_or_else(|| Timestamp::from_system_time(SystemTime::now()));
    let stamp = Stamp {
        event_id: EventId::parse(&read.id),
        occurred_at,
    };
    let mut envelope = Envelope::new(stamp, EventType::from(topic));
    envelope.from = read.sender.unwrap_or_default().into();
    envelope.correlation_id = EventId::parse(&read.correlation_id.unwrap_or_default());
    envelope.reply_to = read.reply_to.unwrap_or_default().into();
    envelope.metadata = read.metadata.unwrap_or_default();
    let payload = read
        .payload
        .map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()));
    envelope.payload = payload.and_then(|raw| Payload::from_bytes(&raw).ok().flatten());
    if read.trace_id.is_some() || read.span_id.is_some() {
        let context = envelope.context.edit();
        context.trace_id = read.trace_id.unwrap_or_default().into();
        context.span_id = read.span_id.unwrap_or_default().into();
    }
    let expires_at = read.ttl.map(|ttl| {
        let span = Duration::try_from_secs_f64(ttl.max(0.0)).unwrap_or(Duration::MAX);
        occurred_at.unix_millis().saturating_add(millis(span))
    });
    Ok((envelope, expires_at))
}

#[cfg(test)]
mod tests;
