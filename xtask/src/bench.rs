//! `cargo xtask bench`: runs a benchmark of the package in `benches/`.
//!
//! Each benchmark is a binary there and prints its own figures; this builds it for release, and
//! starts the servers that it measures.

use crate::cargo;
use crate::failure::Failure;
use crate::services::Running;
use crate::workspace::Workspace;

/// The package that holds the benchmarks.
const PACKAGE: &str = "agentbus-benches";

/// The benchmark that runs when none is named.
const DEFAULT: &str = "bus";

/// The benchmarks that measure servers.
const WITH_SERVICES: &[&str] = &["transports"];

/// Runs the named benchmark with the remaining arguments.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    if !workspace
        .packages()
        .iter()
        .any(|package| package.name == PACKAGE)
    {
        return Err(Failure::new(format!(
            "the workspace has no package {PACKAGE}; add it in the folder benches/ and as a member"
        )));
    }
    let (name, rest) = match arguments.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => (DEFAULT, arguments),
    };
    let call = [
        "run",
        "--release",
        "--package",
        PACKAGE,
        "--bin",
        name,
        "--",
    ];
    let mut command = cargo::command(workspace, &call);
    command.args(rest);
    // Servers started here are stopped when this is dropped, after the last figure.
    let services = match WITH_SERVICES.contains(&name) {
        true => Some(Running::start(workspace)?),
        false => None,
    };
    if let Some(services) = &services {
        let variables = services.variables.iter();
        command.envs(variables.map(|(name, value)| (name, value)));
    }
    cargo::run(command)
}
