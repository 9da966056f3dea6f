//! A transport over a Redis server: channels for those who listen now, streams for those who come
//! back.
//!
//! ```no_run
//! # async fn run() -> Result<(), agentbus_transport::TransportError> {
//! let transport = agentbus_transport_redis::RedisTransport::connect("redis://127.0.0.1:6379").await?;
//! # Ok(())
//! # }
//! ```
#![doc = include_str!("url.md")]

mod address;
mod batch;
mod commands;
mod desk;
mod entries;
mod feed;
mod hearing;
mod heartbeat;
mod inbox;
mod joining;
pub mod limits;
mod line;
mod link;
mod listing;
mod member;
mod names;
mod publish;
mod publisher;
mod reader;
mod removal;
mod routes;
mod scripts;
mod server;
mod transport;
mod verdicts;

pub use transport::RedisTransport;
