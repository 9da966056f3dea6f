//! Two transports over a NATS server: core NATS and JetStream.
//!
//! ```no_run
//! # async fn run() -> Result<(), agentbus_transport::TransportError> {
//! let transport = agentbus_transport_nats::open("nats://127.0.0.1:4222").await?;
//! # Ok(())
//! # }
//! ```
#![doc = include_str!("url.md")]

mod address;
mod asker;
mod connect;
mod dialect;
mod events;
mod feed;
mod inbox;
mod jetstream;
pub mod limits;
mod link;
mod mailbox;
mod publish;
mod source;
mod transport;
mod wire;

use std::sync::Arc;

use agentbus_transport::{Transport, TransportError};

pub use jetstream::JetStreamTransport;
pub use transport::NatsTransport;

use address::{Address, Scheme};

/// Opens the transport that a `nats://` or `jetstream://` URL names.
///
/// # Errors
/// Fails when the URL is not understood, the server cannot be reached, it refuses the
/// credentials, or it has no JetStream where that is asked for.
pub async fn open(url: &str) -> Result<Arc<dyn Transport>, TransportError> {
    let address = Address::parse(url)?;
    Ok(match address.scheme {
        Scheme::Nats => Arc::new(NatsTransport::open(&address).await?),
        Scheme::JetStream => Arc::new(JetStreamTransport::open(&address).await?),
    })
}
