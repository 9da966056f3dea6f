//! A transport over Kafka: one log of events, and calls beside it.
#![doc = include_str!("url.md")]

mod address;
mod broker;
mod ear;
mod feed;
mod feeds;
mod inbox;
mod lanes;
pub mod limits;
mod link;
mod publish;
mod record;
mod table;
mod transport;

pub use transport::KafkaTransport;
