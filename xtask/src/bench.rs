//! `cargo xtask bench`: runs a benchmark of the package in `benches/`.
//!
//! Each benchmark is a binary there and prints its own figures; this only builds it for release.

use crate::cargo;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// The package that holds the benchmarks.
const PACKAGE: &str = "agentbus-benches";

/// The benchmark that runs when none is named.
const DEFAULT: &str = "bus";

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
    cargo::run(command)
}
