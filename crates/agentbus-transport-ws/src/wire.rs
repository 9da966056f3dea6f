//! What client and server say to each other on `/v1/ws`: one JSON object per text frame.
//!
//! Every frame is an object with one member that names the operation, for example
//! `{"invoke":{"id":1,"target":"echo","payload":"hi"}}`. A client numbers its operations with `id`s of its own choosing, which
//! mean something on this connection only; the server answers each with `ok`, `durables`, `reply` or
//! `error` of the same `id`. Subscriptions and inboxes are numbered by the client with `sub`.
//!
//! Replies never travel to a subject that a client made up: a request names a numbered inbox, the
//! server opens a real one for it, and no connection can listen on another's.

use agentbus_protocol::{Envelope, ErrorPayload};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::carrier::{Carrier, Level, StartAt};
use crate::durable::DurableName;

/// Largest text frame in bytes, in both directions: one envelope and what is around it. A list of
/// durable names that is longer is an error.
pub const FRAME_BYTES_MAX: usize = agentbus_protocol::limits::ENVELOPE_BYTES_MAX + 64 * 1024;

/// Most deliveries of one subscription that wait for their verdict before the server sends more.
/// This is the flow control of the connection: a client that does not keep up fills its own
/// queue on the server, where its overflow policy decides.
pub const UNSETTLED_MAX: usize = 256;

/// Most subscriptions and inboxes of one connection.
pub const SUBSCRIPTIONS_MAX: usize = 4096;

/// Most operations of one connection that wait for their answer.
pub const OPERATIONS_MAX: usize = 4096;

/// Writes a frame.
#[must_use]
pub fn encode(frame: &impl Serialize) -> String {
    // Frames are made of text, numbers and JSON that was read before; that cannot fail.
    serde_json::to_string(frame).unwrap_or_default()
}

/// Writes a frame whose `envelope` is empty, and puts an envelope there without parsing it again.
#[must_use]
pub fn encode_with(frame: &impl Serialize, envelope: &Envelope) -> String {
    let mut text = encode(frame).into_bytes();
    // A frame is an object in an object, and the inner one has at least a number in it.
    text.truncate(text.len().saturating_sub(2));
    text.extend_from_slice(br#","envelope":"#);
    envelope.encode_into(&mut text);
    text.extend_from_slice(b"}}");
    String::from_utf8(text).unwrap_or_default()
}

/// What a client sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientFrame {
    /// The first frame: who is speaking. The name becomes `from` in everything this connection
    /// sends, whatever its envelopes say.
    Hello {
        /// The agent id.
        agent: String,
    },
    /// Publishes an event, or sends an envelope to a full subject. Answered with `ok`.
    Publish {
        /// Number of the operation.
        id: u64,
        /// The event type; or else `subject`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event_type: Option<String>,
        /// A full subject within the server's prefix, or the `reply_to` of a delivered message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// The payload of an event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<Box<RawValue>>,
        /// A whole envelope instead of a payload.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        envelope: Option<Box<RawValue>>,
        /// The inbox to which replies shall come; opened when it is first named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inbox: Option<u64>,
        /// One of the six priority names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        priority: Option<String>,
        /// Time to live in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
        /// Whether to wait for the strongest confirmation.
        #[serde(default)]
        confirm: bool,
        /// Whether to fail when nobody listens.
        #[serde(default)]
        require_responder: bool,
        /// A name for this publish: sent again under it, it is stored once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Subscribes. Answered with `ok`, then with `message`s.
    Subscribe {
        /// Number of the operation.
        id: u64,
        /// Number of the subscription.
        sub: u64,
        /// A pattern of event types; or else `subject`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pattern: Option<String>,
        /// A pattern of full subjects within the server's prefix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// The queue group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// Most messages that wait on the server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        capacity: Option<usize>,
        /// `wait` (the default), `drop_oldest` or `fail`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        overflow: Option<String>,
        /// Most messages that are sent before the first of them is settled; at most
        /// [`UNSETTLED_MAX`], which is the default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<usize>,
        /// A name that outlives the connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        durable: Option<String>,
        /// Where to begin, if not with what is published from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start: Option<StartAt>,
        /// How long a message may be worked on before somebody else gets it, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_ms: Option<u64>,
        /// How many attempts a message gets before it is a dead letter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_attempts: Option<u32>,
    },
    /// Takes no new messages; those that wait are still sent, then `end`.
    Stop {
        /// Number of the subscription.
        sub: u64,
    },
    /// Ends a subscription or closes an inbox at once.
    Unsubscribe {
        /// Number of the subscription or inbox.
        sub: u64,
    },
    /// Settles a delivery. Answered with `ok` or `error` if it has an `id`.
    Settle {
        /// Number of the operation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Number of the subscription.
        sub: u64,
        /// Number of the delivery.
        delivery: u64,
        /// `ack`, `nak`, `extend`, `reject` or `abandoned`.
        verdict: String,
        /// The delay of a `nak` or the lease of an `extend`, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ms: Option<u64>,
    },
    /// Forgets a durable name and what it has not settled. Answered with `ok` or `error`.
    RemoveDurable {
        /// Number of the operation.
        id: u64,
        /// The durable name.
        name: String,
    },
    /// Asks for the durable names there are, those of all tenants. Answered with `durables` or
    /// `error`.
    ListDurables {
        /// Number of the operation.
        id: u64,
    },
    /// Calls a target. Answered with `reply` or `error`.
    Invoke {
        /// Number of the operation.
        id: u64,
        /// The target.
        target: String,
        /// The payload.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<Box<RawValue>>,
        /// The session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// W3C trace context.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
        /// How long to wait, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Streams from a target. Answered with `frame`s, then `end`, or with `error`.
    Stream {
        /// Number of the operation.
        id: u64,
        /// The target.
        target: String,
        /// The payload.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<Box<RawValue>>,
        /// The session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// W3C trace context.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
        /// Longest duration of the whole stream, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
        /// Longest silence between two frames, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idle_timeout_ms: Option<u64>,
    },
    /// Gives up an `invoke` or a `stream`; its handler is cancelled.
    Cancel {
        /// Number of the operation to give up.
        id: u64,
    },
}

/// What a server sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerFrame {
    /// The answer to `hello`.
    Welcome {
        /// The agent id under which this connection speaks.
        agent: String,
        /// The subject prefix of the bus.
        prefix: String,
        /// The tenant of the bus, empty without one.
        tenant: String,
        /// Largest text frame in bytes.
        frame_bytes_max: usize,
        /// What the transport of the bus adds.
        #[serde(default)]
        carrier: Carrier,
        /// Event types that are subjects without prefix, because the bus shares them with peers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        topics: Vec<String>,
    },
    /// A `publish`, `subscribe`, `settle` or `remove_durable` was done.
    Ok {
        /// Number of the operation.
        id: u64,
        /// How many subscriptions and groups received the message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receivers: Option<usize>,
        /// The message's number in the log of the bus's transport.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sequence: Option<u64>,
        /// Whether the publish was a repetition under its key, and stored nothing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
        /// Where the message is now; in memory, if it is not said.
        #[serde(default, skip_serializing_if = "Level::is_memory")]
        durability: Level,
    },
    /// All durable names there are, in the order of the names.
    Durables {
        /// Number of the operation.
        id: u64,
        /// Each, and how far it has come.
        durables: Vec<DurableName>,
    },
    /// An operation failed; without `id`, the connection itself is in error and ends.
    Error {
        /// Number of the operation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Why.
        error: ErrorPayload,
    },
    /// A message for a subscription or an inbox.
    Message {
        /// Number of the subscription or inbox.
        sub: u64,
        /// Number of the delivery, to settle it by; `None` needs no verdict.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivery: Option<u64>,
        /// The subject it was published to.
        subject: String,
        /// The message's number in the log of the bus's transport.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sequence: Option<u64>,
        /// Which attempt this is, from 1.
        attempt: u32,
        /// Messages lost just before this one.
        #[serde(default)]
        missed: u64,
        /// The priority name.
        priority: String,
        /// Time that is left, in milliseconds; 0 means that it has expired.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
        /// The envelope.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        envelope: Option<Box<RawValue>>,
    },
    /// The request behind an inbox was given up before it was answered.
    Lost {
        /// Number of the inbox.
        sub: u64,
    },
    /// The reply of an `invoke`.
    Reply {
        /// Number of the operation.
        id: u64,
        /// The whole reply.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        envelope: Option<Box<RawValue>>,
    },
    /// A frame of a `stream`.
    Frame {
        /// Number of the operation.
        id: u64,
        /// The frame.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        envelope: Option<Box<RawValue>>,
    },
    /// A `stream` has had its last frame, or a stopped subscription its last message.
    End {
        /// Number of the `stream`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Number of the subscription.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub: Option<u64>,
    },
}
