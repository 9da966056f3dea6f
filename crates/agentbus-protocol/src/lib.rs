//! The AgentBus wire, and nothing but the wire.
//!
//! This crate defines what one AgentBus peer says to another: the [`Envelope`], the subjects it
//! travels on, the error payload a failed call is answered with, and the pure state machines that
//! both ends run on what they receive ([`reassembly`], [`jsonrpc`]).
//!
//! The envelope is the one of the OpenAgentIO protocol, `acp/1.0`: peers written with the Go,
//! Python and TypeScript SDKs of that protocol read what this crate writes, and the reverse.
//!
//! What it promises: reading is tolerant (unknown keys, any key order, explicit defaults, any
//! UUID version), writing is strict (exact constants, empty fields omitted, RFC 3339 in UTC).
//!
//! What it does *not* do: it performs no I/O, starts no task, reads no clock and draws no random
//! number. Time and entropy are passed in as a [`Stamp`], which is what makes simulation, replay
//! and fuzzing possible. It never parses a payload further than to know that it is JSON.

pub mod codec;
mod context;
pub mod envelope;
pub mod error;
pub mod event;
mod id;
pub mod jsonrpc;
pub mod limits;
mod metadata;
mod pattern;
mod payload;
pub mod reassembly;
mod reply;
pub mod subject;
mod time;
pub mod trace;

pub use codec::DecodeError;
pub use context::{Context, ContextFields};
pub use envelope::{Envelope, Stamp};
pub use error::{ErrorCode, ErrorPayload};
pub use event::{EventType, FrameKind};
pub use id::EventId;
pub use metadata::Metadata;
pub use pattern::{Pattern, PatternError, overlap};
pub use payload::{Payload, PayloadError};
pub use subject::{Subject, SubjectError, SubjectSpace};
pub use time::{Timestamp, TimestampError};
pub use trace::TraceParent;

/// A string of the wire: short ones (up to 23 bytes) and constants live in place, longer ones are
/// shared by reference count. Neither is ever changed.
///
/// An optional wire string that is empty is absent: the wire omits it, so the type does not
/// offer a second spelling of the same thing.
pub type Text = smol_str::SmolStr;

/// Clones a text of the hot path.
///
/// Not inlined, for where a clone is, the compiler copies a text in pieces of which one is a single
/// byte; here it copies three words. Whoever reads words of which a byte was just written waits.
#[inline(never)]
#[must_use]
pub fn copied(text: &Text) -> Text {
    text.clone()
}
