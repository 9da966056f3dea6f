//! Calls to `cargo` and its subcommands.
//!
//! The cargo that started this tool is the cargo it calls, so a toolchain override holds all the
//! way down. Programs are always given as argument lists, never as a line for a shell.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::workspace::Workspace;

/// Starts a cargo call in the root of the workspace.
pub(crate) fn command(workspace: &Workspace, arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(workspace.root());
    command
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
