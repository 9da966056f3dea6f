//! `agentbus worker`: the workers that come with the program.

use std::io::{self, BufWriter};

use agentbus_stdio::workers;

use super::serve::asked_to_stop;
use crate::args::Worker;
use crate::failure::Failure;

/// Runs a worker until its input ends or it is told to stop; both are a success.
pub(crate) async fn worker(worker: Worker) -> Result<(), Failure> {
    // Before the worker, so that no early signal is missed.
    let stop = asked_to_stop();
    let working = tokio::task::spawn_blocking(move || work(worker));
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

fn work(worker: Worker) -> io::Result<()> {
    let (input, mut output, mut log) = (io::stdin(), BufWriter::new(io::stdout()), io::stderr());
    match worker {
        Worker::Echo => workers::echo(input, &mut output, &mut log),
        Worker::McpEcho => workers::mcp_echo(input, &mut output, &mut log),
    }
}
