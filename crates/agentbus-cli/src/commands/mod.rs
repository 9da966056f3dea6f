//! What the command does, one file a verb.

mod acp;
mod agent;
mod attach;
mod bench;
mod bridge;
mod chat;
mod client;
mod dead_letters;
mod decisions;
mod doctor;
mod durable;
mod handle;
mod init;
mod invoke;
mod join;
mod mcp;
mod pool;
mod publish;
mod semantics;
mod serve;
mod stdio;
mod subscribe;
mod targets;
mod worker;

use std::fs;
use std::io::ErrorKind;

use agentbus_transport_ws::credentials;
use clap::CommandFactory;
use clap_complete::Shell;

pub(crate) use acp::acp;
pub(crate) use agent::agent;
pub(crate) use attach::attach;
pub(crate) use bench::bench;
pub(crate) use bridge::bridge;
use chat::escaped;
pub(crate) use chat::{Api, agents, import, post, search, thread, wait};
pub(crate) use client::Client;
pub(crate) use dead_letters::dead_letters;
pub(crate) use decisions::decisions;
pub(crate) use doctor::doctor;
pub(crate) use durable::durable;
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
use crate::config::{Config, KEYS, reference};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Prints the token that clients on this machine use.
pub(crate) fn token(output: &Output) -> Result<(), Failure> {
    match credentials::token() {
        Some(token) => output.line(&token),
        None => Err(Failure::new(Exit::Refused, no_token())),
    }
}

/// Says why there is no token: it was not made yet, or its file cannot be read.
fn no_token() -> String {
    let file = credentials::data_dir().map(|directory| directory.join("token"));
    let unread = file.and_then(|file| Some((fs::read_to_string(&file).err()?, file)));
    match unread {
        Some((error, file)) if error.kind() != ErrorKind::NotFound => format!(
            "the token in {} cannot be read: {error}; make it readable, point AGENTBUS_DATA_DIR at the data directory of \
             the bus, or set AGENTBUS_TOKEN",
            file.display()
        ),
        _ => "there is no token yet; `agentbus serve` makes one at its first start, and AGENTBUS_TOKEN overrides it"
            .to_owned(),
    }
}

/// Prints the configuration, or as JSON. What is no value is a comment, so that it can be a file.
pub(crate) fn config(config: Config, source: &str, output: &Output) -> Result<(), Failure> {
    let config = config.without_passwords();
    if output.is_json() {
        let json = serde_json::to_string(&config);
        return output.line(&json.map_err(|error| Failure::unexpected(error.to_string()))?);
    }
    let failed = |error: toml::ser::Error| Failure::unexpected(error.to_string());
    let set = toml::Table::try_from(&config).map_err(failed)?;
    output.line(&format!("# {source}"))?;
    for key in KEYS.iter().filter(|key| !set.contains_key(key.name)) {
        output.line(&format!("# {} is not set: {}", key.name, key.default))?;
    }
    // Not of the table, which has forgotten the order.
    let text = toml::to_string(&config).map_err(failed)?;
    output.line(text.trim_end())?;
    reference()
        .lines()
        .try_for_each(|line| output.line(format!("# {line}").trim_end()))
}

/// Prints a completion script.
pub(crate) fn completions(shell: Shell, output: &Output) -> Result<(), Failure> {
    // Not straight to the output: the generator panics when that is closed early, as by `head`.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "agentbus", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())
}
