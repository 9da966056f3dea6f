//! Agents behind a bus: real processes, real agents of both official SDKs, and one that misbehaves.
//! Every line both ways is held against the official schema.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where"
)]

mod bad;
mod elicitation;
mod fixture;
mod log;
mod permissions;
mod real;
mod schema;
mod sdks;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
mod turns;
