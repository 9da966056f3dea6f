//! What the protocol crate pulls in: no runtime, no socket, no clock, no source of randomness.
//!
//! Simulation, fuzzing and the SDKs rest on this, so the whole normal dependency graph counts, not
//! only the manifest.

use std::collections::BTreeSet;

use crate::cargo;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// The crate that must stay pure.
const PURE: &str = "agentbus-protocol";

/// Crates that bring a runtime, a socket, a clock or randomness.
const IMPURE: &[&str] = &[
    "async-*",
    "chrono",
    "fastrand",
    "futures-timer",
    "getrandom",
    "h2",
    "hyper",
    "hyper-*",
    "instant",
    "mio",
    "polling",
    "quanta",
    "rand",
    "rand_*",
    "reqwest",
    "smol",
    "socket2",
    "time",
    "tokio",
    "tokio-*",
    "web-time",
];

/// Asks cargo for the dependency graph and checks it.
pub(super) fn check_workspace(workspace: &Workspace) -> Result<Vec<String>, Failure> {
    if !workspace
        .packages()
        .iter()
        .any(|package| package.name == PURE)
    {
        return Ok(Vec::new());
    }
    let arguments = [
        "tree",
        "-p",
        PURE,
        "-e",
        "normal",
        "--prefix",
        "none",
        "--all-features",
    ];
    Ok(check(&cargo::output(cargo::command(
        workspace, &arguments,
    ))?))
}

/// Returns a sentence for each impure crate in the output of `cargo tree --prefix none`.
pub(super) fn check(tree: &str) -> Vec<String> {
    let names = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let found: BTreeSet<&str> = names.filter(|name| is_impure(name)).collect();
    let say =
        |name| format!("{PURE} pulls in {name}; it must know no runtime, clock or randomness");
    found.into_iter().map(say).collect()
}

/// Looks a crate up among the impure ones.
fn is_impure(name: &str) -> bool {
    IMPURE.iter().any(|impure| match impure.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *impure,
    })
}
