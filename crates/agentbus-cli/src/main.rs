//! The `agentbus` command: reads what it was told, does it, and says how it went.

mod args;
mod commands;
mod config;
mod failure;
mod log;
mod memory;
mod output;
mod plain;
mod telemetry;
mod usage;
mod verbs;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use tokio::runtime::{self, Runtime};

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::output::Output;
use crate::telemetry::Telemetry;
use crate::verbs::Verbs;

/// The program that `agentbus stdio` stands in for.
const OLD_NAME: &str = "stdio_bus";

fn main() -> ExitCode {
    let (command, arguments) = arguments();
    let args = match usage::read(command, &arguments) {
        Ok(args) => args,
        Err(failure) => return ended(&Output::new(true), &failure),
    };
    let output = Output::new(args.json);
    match run(args, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ended(&output, &failure),
    }
}

fn ended(output: &Output, failure: &Failure) -> ExitCode {
    output.failure(failure);
    failure.exit_code()
}

/// The arguments and what they may be; under the name `stdio_bus` they are those of `agentbus stdio`.
fn arguments() -> (clap::Command, Vec<OsString>) {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    if name.is_none_or(|name| name != OLD_NAME) {
        return (Args::command(), arguments);
    }
    // The version is that of the program, which the verb alone does not have.
    let version = ["--version", "-V"].map(OsString::from);
    if !arguments.get(1).is_some_and(|one| version.contains(one)) {
        arguments.insert(1, "stdio".into());
    }
    let usage = format!("{OLD_NAME} [OPTIONS]");
    let command = Args::command().mut_subcommand("stdio", |stdio| stdio.override_usage(usage));
    (command, arguments)
}

/// Does what was asked for, within a runtime that ends with it.
fn run(args: Args, output: &Output) -> Result<(), Failure> {
    // Its sender blocks, so it is made and ended outside of the runtime.
    let telemetry = Telemetry::from_env()?;
    let verbs = Verbs::new(&args, &telemetry, output);
    let runtime = runtime_for(&args.command)?;
    let outcome = runtime.block_on(verbs.run(args.command));
    // Reading from a terminal blocks a thread that nothing can wake; it must not hold up the end.
    runtime.shutdown_background();
    telemetry.end();
    outcome
}

fn runtime_for(command: &Command) -> Result<Runtime, Failure> {
    // The process bus has one lock and next to no work of its own: a second thread would only wait.
    let mut builder = match command {
        Command::Stdio(_) => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    let built = builder.enable_all().build();
    built.map_err(|error| Failure::unexpected(format!("cannot start the runtime: {error}")))
}
