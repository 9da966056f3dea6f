//! The project tooling: `cargo xtask help`.
//!
//! Every check that guards the house is a subcommand here, so that a contributor and the
//! continuous build run the same thing. Each command builds on `cargo` and on the text of the
//! workspace; none of them links a crate of the bus.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool speaks on its standard streams"
)]

mod bench;
mod cargo;
mod conformance;
mod crash;
mod failure;
mod fuzz;
mod layers;
mod measure;
mod services;
mod soak;
mod source;
mod suite;
mod workspace;

use std::process::ExitCode;

use crate::failure::Failure;
use crate::workspace::Workspace;

/// What `cargo xtask help` prints.
const HELP: &str = "\
The project tooling.

Usage: cargo xtask COMMAND [ARGUMENTS]

  test [FILTER...]   Run every check and every test; the last line is `N passed, N failed`.
  layers             Check that dependencies point down and that each crate keeps its bounds.
  measure            Measure the shape of the production code and fail past its limits.
  services up|down|status [NAME ...]
                     Install, start, stop or list the brokers and databases that tests use.
  bench [NAME ...]   Run a benchmark (default: bus) and hand it the remaining arguments.
  conformance mcp    Run the official MCP suite, from npm, against a bus of our own.
  crash [RUNS]       Kill what uses SQLite and JetStream in so many seeded runs (default: 200 each).
  fuzz [SECONDS]     Run every fuzz target for that long (default: 60 seconds each).
  soak NAME [SECONDS] Run a long test (chat, stdio) for that long (default: 300 seconds).
  help               Print this text.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command that the first argument names.
fn dispatch(arguments: &[String]) -> Result<ExitCode, Failure> {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", arguments),
    };
    match command {
        "test" => suite::run(&Workspace::open()?, rest),
        "layers" => done(layers::run(&Workspace::open()?)),
        "measure" => done(measure::run(&Workspace::open()?)),
        "services" => done(services::run(&Workspace::open()?, rest)),
        "bench" => done(bench::run(&Workspace::open()?, rest)),
        "conformance" => done(conformance::run(&Workspace::open()?, rest)),
        "crash" => done(crash::run(&Workspace::open()?, rest)),
        "fuzz" => done(fuzz::run(&Workspace::open()?, rest)),
        "soak" => done(soak::run(&Workspace::open()?, rest)),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Failure::new(format!(
            "there is no command named {other:?}; run `cargo xtask help` for the list"
        ))),
    }
}

/// Turns a finished check into the exit code of a success.
fn done(result: Result<(), Failure>) -> Result<ExitCode, Failure> {
    result.map(|()| ExitCode::SUCCESS)
}
