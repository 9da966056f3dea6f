//! A transport over a RabbitMQ broker: one topic exchange for everything, a queue for each
//! receiver, and a confirmation for each publish.
//!
//! ```no_run
//! # async fn run() -> Result<(), agentbus_transport::TransportError> {
//! let url = "amqp://guest:guest@127.0.0.1:5672";
//! let transport = agentbus_transport_rabbitmq::RabbitTransport::connect(url).await?;
//! # Ok(())
//! # }
//! ```
#![doc = include_str!("url.md")]

mod address;
mod consumer;
mod ear;
mod errors;
mod feed;
mod home;
mod kept;
pub mod limits;
mod line;
mod link;
mod member;
mod names;
mod outlet;
mod plan;
mod publish;
mod removal;
mod seats;
mod settle;
mod transport;

pub use transport::RabbitTransport;
