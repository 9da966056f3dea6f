//! Independent ACP clients against the real program, every frame of theirs checked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where, and one that is left out should say so"
)]

mod bus;
mod clients;
mod editor;
mod editors;
mod gone;
mod launching;
mod logins;
mod mcp_http;
mod proxy;
mod registry;
#[path = "../support/serving.rs"]
mod serving;
#[path = "../../../agentbus-acp/tests/support/mod.rs"]
mod support;
mod tap;
