//! Calls to `cargo` and its subcommands.
//!
//! The cargo that started this tool is the cargo it calls, so a toolchain override holds all the
//! way down. Programs are always given as argument lists, never as a line for a shell.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::workspace::Workspace;

/// Starts a cargo call in the root of the workspace.
///
/// What our own cargo said about this package is left out: some build scripts look at it, and would
/// run again each time that a build is begun in the other way, with everything that stands on them.
pub(crate) fn command(workspace: &Workspace, arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(workspace.root());
    for (name, _) in std::env::vars_os() {
        if is_about_a_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

fn is_about_a_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}

/// Finds the build directory, which a variable may have moved.
pub(crate) fn target(workspace: &Workspace) -> PathBuf {
    let moved = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    workspace
        .root()
        .join(moved.unwrap_or_else(|| "target".into()))
}

/// Starts a cargo call from words that are separated by blanks; for fixed lines only.
pub(crate) fn line(workspace: &Workspace, words: &str) -> Command {
    command(workspace, &words.split_whitespace().collect::<Vec<_>>())
}

/// Runs a command on the terminal of the caller and fails when it fails.
pub(crate) fn run(mut command: Command) -> Result<(), Failure> {
    let shown = show(&command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("`{shown}` failed with {status}"))),
        Err(error) => Err(Failure::new(format!("cannot start `{shown}`: {error}"))),
    }
}

/// Runs a command and returns what it wrote to its standard output.
pub(crate) fn output(mut command: Command) -> Result<String, Failure> {
    let shown = show(&command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("cannot start `{shown}`: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "`{shown}` failed with {}",
            output.status
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tells whether cargo knows a subcommand, by asking it for its version.
pub(crate) fn has(workspace: &Workspace, subcommand: &str) -> bool {
    command(workspace, &[subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Writes a command the way a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let mut words = vec![String::from("cargo")];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_does_not_inherit_what_was_said_about_this_package() {
        let workspace = Workspace::open().unwrap();
        let call = command(&workspace, &["build"]);
        let removed: Vec<_> = call
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .collect();
        // Cargo sets both for every test.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
            assert!(
                removed.iter().any(|(removed, _)| *removed == name),
                "{name}"
            );
        }
    }
}
