//! Middleware for handlers, as tower layers.
//!
//! The recommended order is, outermost first: [`Trace`], [`Logging`], [`DeadLetter`], [`Timeout`],
//! [`Retry`], then the limits. A [`Recover`] stands outside of all of them on every bus.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), agentbus::Error> {
//! use std::time::Duration;
//!
//! use agentbus::Bus;
//! use agentbus::middleware::{DeadLetter, Logging, Retry, Timeout, Trace};
//!
//! let bus = Bus::builder("worker")
//!     .layer(Trace)
//!     .layer(Logging)
//!     .layer(DeadLetter)
//!     .layer(Timeout::new(Duration::from_secs(10)))
//!     .layer(Retry::attempts(3))
//!     .connect()
//!     .await?;
//! # bus.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A layer of your own is any `tower::Layer` whose service takes a [`Request`](crate::Request)
//! and returns a [`Reply`](crate::Reply) or an [`Error`](crate::Error).

pub mod dead_letter;
mod limit;
mod logging;
mod recover;
mod retry;
mod timeout;
mod trace;

pub use dead_letter::DeadLetter;
pub use limit::{ConcurrencyLimit, RateLimit};
pub use logging::Logging;
pub use recover::Recover;
pub use retry::{Backoff, Retry};
pub use timeout::Timeout;
pub use trace::Trace;
