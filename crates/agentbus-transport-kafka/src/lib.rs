//! A transport over Kafka: one log of events, calls beside it, and ledgers of who handled what.
#![doc = include_str!("url.md")]

mod address;
mod broker;
mod ear;
mod feed;
mod feeds;
mod gate;
mod inbox;
mod joining;
mod keeper;
mod lanes;
mod ledger;
pub mod limits;
mod line;
mod link;
mod member;
mod publish;
mod reader;
mod record;
mod removal;
mod table;
mod transport;
mod verdicts;

pub use transport::KafkaTransport;
