//! The worker as its client sees it, over a pipe in the same process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on should say where, and one that is left out should say so"
)]

#[path = "support/peer.rs"]
mod peer;
mod support;
use support::frames;

#[path = "worker/elicitation.rs"]
mod elicitation;
#[path = "worker/endpoint.rs"]
mod endpoint;
#[path = "worker/methods.rs"]
mod methods;
#[path = "worker/openai.rs"]
mod openai;
#[path = "worker/tools.rs"]
mod tools;
#[path = "worker/turns.rs"]
mod turns;
