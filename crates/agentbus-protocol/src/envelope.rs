//! The one message type of the bus.

use crate::{Context, EventId, EventType, FrameKind, Metadata, Payload, Text, Timestamp};

/// The protocol version that is written.
pub const SPEC_VERSION: &str = "acp/1.0";

/// The schema version that is written.
pub const SCHEMA_VERSION: u32 = 1;

/// Identity and time of a new envelope, minted by the caller.
///
/// This crate has neither a clock nor randomness, so whoever makes an envelope brings both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The new envelope's id.
    pub event_id: EventId,
    /// When it came to be.
    pub occurred_at: Timestamp,
}

/// One message: who says what to whom, about which call, with an opaque payload.
///
/// Optional text fields are empty when absent. Cloning copies no payload, context or metadata;
/// these are shared by reference count.
///
/// ```
/// use agentbus_protocol::{Envelope, EventId, EventType, Payload, Stamp, Timestamp};
///
/// let stamp = Stamp { event_id: EventId::v7(0, &[7; 10]), occurred_at: Timestamp::UNIX_EPOCH };
/// let mut envelope = Envelope::new(stamp, EventType::from("order.paid"));
/// envelope.payload = Some(Payload::text("thanks"));
/// let bytes = envelope.encode();
/// assert_eq!(Envelope::decode(&bytes.into(), Timestamp::UNIX_EPOCH).unwrap(), envelope);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Protocol version; [`SPEC_VERSION`] in what we write.
    pub spec_version: Text,
    /// Schema version; [`SCHEMA_VERSION`] in what we write.
    pub schema_version: u32,
    /// Identity of this envelope.
    pub event_id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// The role in a call as the sender wrote it; see [`Envelope::effective_frame_type`].
    pub frame_type: Text,
    /// When the envelope came to be.
    pub occurred_at: Timestamp,
    /// Session, tenant, user and trace; a reply copies it from its request.
    pub context: Context,
    /// In a reply, the request's `event_id`.
    pub correlation_id: EventId,
    /// The subject to which replies are published.
    pub reply_to: Text,
    /// Agent id of the sender.
    pub from: Text,
    /// Target of a request; agent id of the caller in a reply.
    pub to: Text,
    /// Number of a frame in its stream, from 0.
    pub seq: u64,
    /// Whether no more frames follow.
    pub is_final: bool,
    /// The content, opaque to the bus.
    pub payload: Option<Payload>,
    /// Free-form map; what does not begin with `acp.` is inherited by replies.
    pub metadata: Metadata,
}

impl Envelope {
    /// The room for an envelope, with nothing in it: for whoever fills one in where it is to stand.
    pub const BLANK: Self = Self {
        spec_version: Text::new_static(SPEC_VERSION),
        schema_version: SCHEMA_VERSION,
        event_id: EventId::ABSENT,
        event_type: EventType::BLANK,
        frame_type: Text::new_static(""),
        occurred_at: Timestamp::UNIX_EPOCH,
        context: Context::EMPTY,
        correlation_id: EventId::ABSENT,
        reply_to: Text::new_static(""),
        from: Text::new_static(""),
        to: Text::new_static(""),
        seq: 0,
        is_final: false,
        payload: None,
        metadata: Metadata::EMPTY,
    };

    /// Makes an envelope of any type with everything else empty.
    #[must_use]
    #[inline]
    pub fn new(stamp: Stamp, event_type: EventType) -> Self {
        let mut envelope = Self::BLANK;
        envelope.become_event(stamp, event_type);
        envelope
    }

    /// Becomes an envelope of any type, in the place where it stands.
    #[inline]
    pub fn become_event(&mut self, stamp: Stamp, event_type: EventType) {
        self.event_id = stamp.event_id;
        self.occurred_at = stamp.occurred_at;
        self.event_type = event_type;
    }

    /// Makes a request to `target`.
    #[must_use]
    #[inline]
    pub fn request(stamp: Stamp, from: Text, target: Text, payload: Option<Payload>) -> Self {
        let mut request = Self::BLANK;
        request.become_request(stamp, from, target);
        request.payload = payload;
        request
    }

    /// Becomes a request to `target`, in the place where it stands.
    #[inline]
    pub fn become_request(&mut self, stamp: Stamp, from: Text, target: Text) {
        self.become_event(stamp, EventType::MESSAGE_RECEIVED);
        self.frame_type = FrameKind::Request.text();
        self.from = from;
        self.to = target;
    }

    /// The frame type that counts: the one its event type fixes, else the one that was sent.
    #[must_use]
    pub fn effective_frame_type(&self) -> &str {
        match self.event_type.frame_kind() {
            Some(kind) => kind.as_str(),
            None => &self.frame_type,
        }
    }
}
