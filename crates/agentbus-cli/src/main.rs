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

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::output::Output;
use crate::telemetry::Telemetry;

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

/// Verbs that need the configuration read all of it before any port is opened or program started.
fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let named = args.config.clone();
    let config = || config::load(named.as_deref());
    // Those that may run a bus for an editor; what an unnamed file says of safety does not count.
    let hosting = || config::load_guarded(named.as_deref(), output)?.in_this_environment();
    // Its sender blocks, so it is made and ended outside of the runtime.
    let telemetry = Telemetry::from_env()?;
    let client = commands::Client::new(&args, output.clone(), telemetry.clone());
    let api = commands::Api::new(&args.url, output.clone());
    // The process bus has one lock and next to no work of its own: a second thread would only wait.
    let mut builder = match args.command {
        Command::Stdio(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::unexpected(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        match args.command {
            Command::Serve(serve) => {
                let config = config()?.in_this_environment()?;
                commands::serve(serve.merge(args.transport, config), &telemetry, output).await
            }
            Command::Pub(publish) => commands::publish(&client, publish).await,
            Command::Sub(subscribe) => commands::subscribe(&client, subscribe).await,
            Command::Bridge(bridge) => commands::bridge(bridge, output).await,
            Command::Invoke(invoke) => commands::invoke(&client, invoke).await,
            Command::Handle(handle) => commands::handle(&client, handle).await,
            Command::Stdio(stdio) => commands::stdio(stdio, named.as_deref(), output).await,
            Command::Mcp(asked) => {
                let api = api.with_token_of(asked.serve.data_dir());
                commands::mcp(asked, hosting, &api, &telemetry, output).await
            }
            Command::Acp(asked) => {
                let api = api.with_token_of(asked.serve.data_dir());
                commands::acp(asked, hosting, &api, &telemetry, output).await
            }
            Command::Init(asked) => commands::init(&asked, &args.url, output),
            Command::Agent(verb) => commands::agent(verb, named.as_deref(), output),
            Command::Attach(asked) => commands::attach(&api, asked).await,
            Command::Decisions(verb) => commands::decisions(&api, verb).await,
            Command::DeadLetters { verb } => commands::dead_letters(&api, verb).await,
            Command::Durable(verb) => commands::durable(&api, verb).await,
            Command::Pool(pool) => commands::pool(&client, pool).await,
            Command::Worker(worker) => commands::worker(worker, output).await,
            Command::Thread(verb) => commands::thread(&api, verb).await,
            Command::Post(post) => commands::post(&api, post).await,
            Command::Wait(wait) => commands::wait(&api, wait).await,
            Command::Search(search) => commands::search(&api, search).await,
            Command::Targets => commands::targets(&api).await,
            Command::Agents => commands::agents(&api).await,
            Command::Import(from) => commands::import(from, &config()?, output).await,
            Command::Bench(asked) => commands::bench(&client, asked).await,
            Command::Doctor(serve) => {
                commands::doctor(serve, args.transport, &args.url, named.as_deref(), output).await
            }
            Command::Semantics => commands::semantics(output),
            Command::Token => commands::token(output),
            Command::Config(serve) => {
                let config = config()?.in_this_environment()?;
                let config = serve.merge(args.transport, config);
                commands::config(config, &config::source(named.as_deref()), output)
            }
            Command::Completions { shell } => commands::completions(shell, output),
        }
    });
    // Reading from a terminal blocks a thread that nothing can wake; it must not hold up the end.
    runtime.shutdown_background();
    telemetry.end();
    outcome
}
