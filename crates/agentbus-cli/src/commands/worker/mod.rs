//! `agentbus worker`: the workers that come with the program.

mod acp;

use std::io::{self, BufWriter};

use agentbus_stdio::workers;

use super::serve::asked_to_stop;
use crate::args::Worker;
use crate::failure::Failure;
use crate::output::Output;

/// A worker that blocks while it waits.
type Blocking = fn(io::Stdin, &mut BufWriter<io::Stdout>, &mut io::Stderr) -> io::Result<()>;

/// Runs a worker until its input ends or it is told to stop; both are a success.
pub(crate) async fn worker(worker: Worker, output: &Output) -> Result<(), Failure> {
    match worker {
        Worker::Echo => run(workers::echo).await,
        Worker::McpEcho => run(workers::mcp_echo).await,
        Worker::Acp(args) => acp::serve(args, output).await,
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
