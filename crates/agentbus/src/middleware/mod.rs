//! Middleware for handlers, as tower layers.
//!
//! The recommended order is, outermost first: [`Trace`], [`Logging`], dead letters, timeout,
//! retry, limits. A [`Recover`] stands outside of all of them on every bus.
//!
//! A layer of your own is any `tower::Layer` whose service takes a [`Request`](crate::Request)
//! and returns a [`Reply`](crate::Reply) or an [`Error`](crate::Error).

mod recover;

pub use recover::Recover;
