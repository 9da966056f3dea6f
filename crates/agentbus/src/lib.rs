//! One bus for AI agents: publish, subscribe, invoke and stream over any transport.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), agentbus::Error> {
//! use agentbus::{Bus, Request};
//! use serde_json::json;
//!
//! let bus = Bus::builder("guide").connect().await?;
//!
//! // A target with one reply.
//! bus.handle("echo", |request: Request| async move { Ok(request.payload().cloned()) }).await?;
//! let reply = bus.invoke("echo", &json!({ "msg": "hi" })).await?;
//! assert_eq!(reply.payload.unwrap().as_str(), r#"{"msg":"hi"}"#);
//!
//! // A target that streams.
//! bus.handle_stream("count", |_, out| async move {
//!     for n in 1..=3 {
//!         out.delta(&json!({ "n": n })).await?;
//!     }
//!     out.finish(&json!({ "total": 3 })).await
//! })
//! .await?;
//! let mut frames = bus.stream("count", &json!({})).await?;
//! let mut seen = 0;
//! while let Some(frame) = frames.next().await {
//!     frame?;
//!     seen += 1;
//! }
//! assert_eq!(seen, 4);
//!
//! // Events.
//! let mut orders = bus.subscribe("order.*").await?;
//! bus.publish("order.paid", &json!({ "n": 1 })).await?;
//! let delivery = orders.next().await.unwrap();
//! assert_eq!(delivery.envelope().event_type.as_str(), "order.paid");
//! bus.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! What the bus promises: a target that nobody serves is an error at once; a handler that fails,
//! panics or expires is answered for; a caller that gives up cancels its handler; handlers run
//! side by side up to a bound; session and trace travel through nested calls.
//!
//! What it does not do: it never looks into a payload, and it adds no guarantee to what the
//! transport gives.

mod address;
mod answer;
pub mod bridge;
mod builder;
mod bus;
mod call;
mod cancel;
#[cfg(feature = "contract")]
pub mod contract;
mod current;
pub mod dead_letters;
mod deadline;
mod draft;
mod error;
mod handler;
mod handling;
pub mod limits;
pub mod meter;
pub mod middleware;
pub mod mint;
mod publish;
#[cfg(feature = "schema")]
pub mod schemas;
mod serve;
mod stream_call;
mod stream_writer;
mod subscribe;
mod targets;
pub mod telemetry;
pub mod transports;
mod turn;
mod worker;

pub use agentbus_protocol as protocol;
pub use agentbus_protocol::{
    Context, ContextFields, Envelope, ErrorCode, ErrorPayload, EventId, EventType, FrameKind,
    Metadata, Payload, Text,
};
pub use agentbus_transport as transport;
pub use agentbus_transport::{Delivery, Overflow, Priority, Receipt, Start, TransportError};
pub use builder::Builder;
pub use bus::Bus;
pub use call::{Calling, Invoke, TopicRequest};
pub use current::current;
pub use dead_letters::DeadLetters;
pub use error::Error;
pub use handler::{Handler, HandlerService, IntoReply, Json, Reply, Request};
pub use publish::{Publish, Publishing};
pub use serve::Handle;
pub use stream_call::{Frames, StreamCall};
pub use stream_writer::StreamWriter;
pub use subscribe::{SubscribeBuilder, Subscription, events_pattern};
pub use targets::{Registration, TargetInfo, TargetKind};

/// Takes the envelope out of a delivery; copies it only when somebody else shares the message.
pub(crate) fn take_envelope(delivery: Delivery) -> Envelope {
    let message = std::sync::Arc::clone(delivery.message());
    drop(delivery.ack());
    std::sync::Arc::unwrap_or_clone(message).envelope
}
