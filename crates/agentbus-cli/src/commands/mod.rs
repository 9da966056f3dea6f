//! What the command does, one file a verb.

mod agent;
mod attach;
mod bridge;
mod chat;
mod client;
mod decisions;
mod handle;
mod init;
mod invoke;
mod mcp;
mod pool;
mod publish;
mod semantics;
mod serve;
mod stdio;
mod subscribe;
mod targets;
mod worker;

use clap::CommandFactory;
use clap_complete::Shell;

pub(crate) use agent::agent;
pub(crate) use attach::attach;
pub(crate) use bridge::bridge;
use chat::escaped;
pub(crate) use chat::{Api, agents, import, post, search, thread, wait};
pub(crate) use client::Client;
pub(crate) use decisions::decisions;
pub(crate) use handle::handle;
pub(crate) use init::init;
pub(crate) use invoke::invoke;
pub(crate) use mcp::mcp;
pub(crate) use pool::pool;
pub(crate) use publish::publish;
pub(crate) use semantics::semantics;
pub(crate) use serve::serve;
pub(crate) use stdio::stdio;
pub(crate) use subscribe::subscribe;
pub(crate) use targets::targets;
pub(crate) use worker::worker;

use crate::args::Args;
use crate::config::{Config, reference};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Prints the token that clients on this machine use.
pub(crate) fn token(output: &Output) -> Result<(), Failure> {
    match agentbus_transport_ws::credentials::token() {
        Some(token) => output.line(&token),
        None => Err(Failure::new(
            Exit::Refused,
            "there is no token yet; `agentbus serve` makes one at its first start, and AGENTBUS_TOKEN overrides it",
        )),
    }
}

/// Prints the configuration as it is, or as JSON.
pub(crate) fn config(config: &Config, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        let json = serde_json::to_string(config);
        return output.line(&json.map_err(|error| Failure::unexpected(error.to_string()))?);
    }
    let toml = toml::to_string(config).map_err(|error| Failure::unexpected(error.to_string()))?;
    output.line(toml.trim_end())?;
    output.line("")?;
    output.line(reference().trim_end())
}

/// Prints a completion script.
pub(crate) fn completions(shell: Shell, output: &Output) -> Result<(), Failure> {
    // Not straight to the output: the generator panics when that is closed early, as by `head`.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "agentbus", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())
}
