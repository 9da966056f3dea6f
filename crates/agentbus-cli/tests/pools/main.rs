//! The stdio process bus as its clients see it: the real program, real workers, over standard
//! input and output, Unix sockets and TCP. Names that begin with `v` and a number are the
//! conformance vectors of the daemon that it replaces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where"
)]

mod cost;
mod extensions;
mod flow;
mod harness;
mod host;
mod journey;
mod leaks;
mod lifecycle;
mod limits;
mod operator;
#[path = "../../../agentbus-transport-redis/tests/support/ports.rs"]
mod ports;
#[path = "../support/readme.rs"]
mod readme;
mod routing;
mod serve;
#[path = "../support/serving.rs"]
mod serving;
mod setup;
mod soak;
mod texts;
mod upkeep;
mod wire;
