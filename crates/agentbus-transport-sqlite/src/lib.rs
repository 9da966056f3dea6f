//! The embedded durable transport: one file, no server.
//!
//! `sqlite://PATH` keeps every event in an append-only log in SQLite and serves it to subscriptions
//! that have a name, that read the past, or that simply listen. One process has the file at a time.
//!
//! What it promises: an acknowledged publish is on the disk; a durable subscription gets every
//! message that matches, in order within one priority, until it has settled it; each attempt has
//! its number, across crashes too; what nobody can handle becomes a dead letter; nothing that a
//! durable subscription still needs is forgotten, and a log that may not grow refuses publishes
//! instead.
//!
//! What it does not do: it does not store requests, replies and cancellations. Somebody waits for
//! those now and nobody could use them after a restart; they go the way of the in-memory broker and
//! cost no disk. Nor does it replicate: the disk is the level of its promise.
//!
//! What would surprise: a subscription without a name that listens from now on gets its messages
//! when they are on the disk, but not from there; its queue is in memory, slows its publishers, and
//! ends with it.

mod consumer;
mod consumers;
mod cursors;
mod error;
mod group;
mod ledger;
pub mod limits;
mod lock;
mod open;
mod options;
mod queue;
mod reader;
mod record;
mod retention;
mod schema;
mod source;
mod store;
mod tail;
mod transport;
mod writer;

pub use agentbus_transport::DurableInfo;
pub use options::{Options, Retention};
pub use transport::SqliteTransport;
