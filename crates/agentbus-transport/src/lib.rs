//! What carries envelopes: one contract, the in-memory broker, and the kit that proves both.
//!
//! A [`Transport`] moves [`Message`]s from publishers to subscriptions. It knows subjects, queue
//! groups, priorities and deadlines; it knows nothing of calls, streams or payloads.
//!
//! What every transport promises is written at the methods of [`Transport`] and checked by the
//! contract kit. What a transport cannot do it says in its [`Capabilities`]; asking for
//! it all the same is an error at once, never a silent weakening.

mod capabilities;
pub mod clock;
mod completion;
#[cfg(feature = "contract")]
pub mod contract;
pub mod dead_letter;
mod delivery;
mod departed;
mod durable;
mod error;
pub mod limits;
mod memory;
mod message;
mod receive;
pub mod remote;
pub mod stats;
mod transport;

pub use capabilities::{Capabilities, Capability, Confirmation, Durability, Ordering};
pub use completion::Completion;
pub use delivery::{Delivery, Received, Settle, Settlement, Verdict};
pub use departed::Departed;
pub use durable::DurableInfo;
pub use error::TransportError;
pub use memory::MemoryTransport;
pub use message::{Message, Priority};
pub use receive::{Inbox, Source, Subscription};
pub use stats::{QueueStats, TransportStats};
pub use transport::{
    BoxFuture, Drained, Overflow, PublishOptions, Receipt, Start, Subscribe, Transport,
};
