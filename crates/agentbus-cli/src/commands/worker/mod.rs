//! `agentbus worker`: the workers that come with the program.

mod acp;
mod proxy;
mod registry;

use std::io::{self, BufWriter};
use std::path::PathBuf;

use agentbus_stdio::workers;
use tokio_util::sync::CancellationToken;

use super::serve::asked_to_stop;
use crate::args::Worker;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// A worker that blocks while it waits.
type Blocking = fn(io::Stdin, &mut BufWriter<io::Stdout>, &mut io::Stderr) -> io::Result<()>;

/// Runs a worker until its input ends or it is told to stop; both are a success.
pub(crate) async fn worker(worker: Worker, output: &Output) -> Result<(), Failure> {
    match worker {
        Worker::Echo => run(workers::echo).await,
        Worker::McpEcho => run(workers::mcp_echo).await,
        Worker::Acp(args) => acp::serve(args, output).await,
        Worker::Registry(args) => registry::serve(args, output).await,
        Worker::McpProxy(args) => proxy::serve(args, output).await,
    }
}

async fn run(work: Blocking) -> Result<(), Failure> {
    // Before the worker, so that no early signal is missed.
    let stop = asked_to_stop();
    let working = tokio::task::spawn_blocking(move || {
        let mut output = BufWriter::new(io::stdout());
        work(io::stdin(), &mut output, &mut io::stderr())
    });
    let outcome = tokio::select! {
        worked = working => worked.unwrap_or_else(|error| Err(io::Error::other(error))),
        () = stop => Ok(()),
    };
    match outcome {
        // Who does not read the answers does not want them.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| Failure::unexpected(error.to_string())),
    }
}

/// Returns a token that fires when a signal asks to stop.
fn stopped_by_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    // Before the task, so that no early signal is missed.
    let asked = asked_to_stop();
    let fired = stop.clone();
    // Ends with the program.
    tokio::spawn(async move {
        asked.await;
        fired.cancel();
    });
    stop
}

/// Returns a variable; an empty one is none.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where a worker keeps what this user's programs can do without.
fn state_directory(name: &str) -> Result<PathBuf, Failure> {
    let home = || Some(PathBuf::from(set("HOME")?).join(".local/state"));
    let state = set("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    let state = state.ok_or_else(|| {
        let message =
            "there is no home directory to keep anything in; name a directory with --data-dir";
        Failure::new(Exit::Configuration, message)
    })?;
    Ok(state.join("agentbus").join(name))
}
