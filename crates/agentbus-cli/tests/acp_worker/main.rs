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
mod elicitation;
mod ending;
#[allow(
    dead_code,
    clippy::needless_pass_by_value,
    reason = "the tests of the worker itself use all of it, and write values where they pass them"
)]
#[path = "../../../agentbus-acp/tests/worker/endpoint.rs"]
mod endpoint;
mod gone;
mod hostile;
mod launching;
mod logins;
mod mcp_http;
mod openai;
mod passing;
#[path = "../../../agentbus-transport-redis/tests/support/ports.rs"]
mod ports;
mod proxy;
mod registry;
#[path = "../support/serving.rs"]
mod serving;
mod socket;
#[path = "../../../agentbus-acp/tests/support/mod.rs"]
mod support;
#[path = "../support/tap.rs"]
mod tap;

/// Where the scripts of the tours are.
pub(crate) fn script(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/acp_worker")
        .join(name)
}
