//! Pools of worker processes that speak NDJSON JSON-RPC on their standard input and output, shared
//! by any number of clients and routed by session. A drop-in for stdio Bus.
//!
//! Its parts, from the inside out:
//!
//! - [`router`] decides where each message goes; it knows no descriptors, tasks or clocks;
//! - [`framing`] takes streams of bytes apart into messages;
//! - [`supervise`] decides when a worker is started again;
//! - [`daemon`] drives them inside the runtime it is called from: it reads, writes at once where
//!   it can, queues where it cannot, and starts and ends processes.
//!
//! Messages are forwarded byte for byte. Only the top level of a message is looked at.

mod audit;
pub mod code;
pub mod config;
pub mod daemon;
pub mod framing;
pub mod limits;
pub mod router;
pub mod supervise;
pub mod workers;

pub use audit::TARGET as AUDIT_TARGET;
pub use config::{Config, ConfigError};
pub use daemon::{Daemon, DaemonError, Listen};
