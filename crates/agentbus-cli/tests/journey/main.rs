//! What the program does, with real processes. `first_lines.rs` types what the README shows.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod bus;
mod events;
mod lifetime;
mod mistakes;
mod programs;
#[path = "../support/serving.rs"]
mod serving;
mod settings;
