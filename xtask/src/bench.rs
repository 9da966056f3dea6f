//! `cargo xtask bench`: runs a benchmark of the package in `benches/`.
//!
//! They are one program, which prints its own figures; this builds it for release together with the
//! command `agentbus`, which some of them measure, and starts the servers that others do.

use std::process::Command;

use crate::cargo;
use crate::failure::Failure;
use crate::services::Running;
use crate::workspace::Workspace;

/// The package that holds the benchmarks.
const PACKAGE: &str = "agentbus-benches";

/// Their program.
const PROGRAM: &str = "agentbus-bench";

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
    cargo::run(cargo::line(
        workspace,
        "build --release --bins --package agentbus-cli --package agentbus-benches",
    ))?;
    let mut command = Command::new(cargo::target(workspace).join("release").join(PROGRAM));
    command.arg(name).args(rest).current_dir(workspace.root());
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
