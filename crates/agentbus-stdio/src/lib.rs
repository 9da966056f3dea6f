//! Pools of worker processes that speak NDJSON JSON-RPC, routed by session.
//!
//! It promises:
//!
//! - a line is forwarded byte for byte; only an id that another request pending on the same
//!   worker already has is replaced, and given back on the way home;
//! - two clients with equal ids never see each other's answers;
//! - every request is answered, by a worker or with an error of [`codes`];
//! - nothing is discarded: readers are paused, and only a client that does not read for a
//!   configured time is cut off;
//! - no process outlives the bus.
//!
//! It reads only the top-level routing fields of a line, keeps no history and knows no AI.
#![cfg(unix)]

mod call;
pub mod codes;
pub mod config;
mod core;
mod daemon;
mod driver;
pub mod framing;
pub mod limits;
mod pools;
mod supervisor;
pub mod targets;
pub mod workers;

pub use call::{Answer, Call, CallError, CallEvent, CallStream};
pub use codes::Fault;
pub use config::Config;
pub use core::{Counters, Latency};
pub use daemon::{DaemonError, Endpoint, run};
pub use driver::listen::ListenError;
pub use limits::Limits;
pub use pools::{Pools, WorkerStatus};
pub use targets::PoolTargets;
