//! The official MCP clients against the real program, over every transport, at both eras.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where, and one that is left out should say so"
)]

mod configured;
mod init;
#[path = "../support/install.rs"]
mod install;
mod joining;
#[allow(
    dead_code,
    reason = "its commands run as one script, because one of them waits for another"
)]
#[path = "../support/readme.rs"]
mod journeys;
mod lines;
mod python;
mod readme;
mod sdk;
#[path = "../support/serving.rs"]
mod serving;
mod typescript;
