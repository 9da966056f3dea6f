//! One agent under way: a program, what goes in and what comes out.

use std::time::Duration;

use agentbus_process::{Process, Program};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::codes::Refusal;

/// What an agent's task tells the launcher.
#[derive(Debug)]
pub(super) enum Event {
    /// It wrote a line.
    Line(String, String),
    /// It is gone, and who waits for it gets this answer.
    Gone(String, Refusal),
}

/// Serves an agent until it ends, or until `stop` fires and it has had `grace` to end.
pub(super) async fn serve(
    id: String,
    program: Result<Program, Refusal>,
    lines: mpsc::Receiver<String>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    grace: Duration,
) {
    let refusal = match start(&id, program).await {
        Ok(process) => {
            let how = run(&id, process, lines, &events, &stop, grace).await;
            Refusal::ended(&id, &how)
        }
        Err(refusal) => refusal,
    };
    // The launcher hears no more events once it has stopped.
    let _ = events.send(Event::Gone(id, refusal)).await;
}

async fn start(id: &str, program: Result<Program, Refusal>) -> Result<Process, Refusal> {
    let name = id.to_owned();
    let program = program?.on_stderr(move |line| tracing::info!(agent = name, "{line}"));
    let started = program.spawn().await;
    started.map_err(|error| Refusal::not_started(id, &error.to_string()))
}

/// Passes lines both ways; returns how the program ended.
async fn run(
    id: &str,
    mut process: Process,
    mut lines: mpsc::Receiver<String>,
    events: &mpsc::Sender<Event>,
    stop: &CancellationToken,
    grace: Duration,
) -> String {
    let (Some(mut stdin), Some(stdout)) = (process.take_stdin(), process.take_stdout()) else {
        return "it came without its pipes".to_owned();
    };
    let writing = async {
        while let Some(mut line) = lines.recv().await {
            line.push('\n');
            // The end of the program is seen where it is read.
            if stdin.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut lines = stdout.lines();
        loop {
            match lines.next().await {
                Ok(Some(line)) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    if !line.trim().is_empty() {
                        let _ = events.send(Event::Line(id.to_owned(), line)).await;
                    }
                }
                Ok(None) => return None,
                Err(error) => return Some(error.to_string()),
            }
        }
    };
    let broken = tokio::select! {
        broken = reading => broken,
        () = writing => None,
        () = stop.cancelled() => None,
    };
    let outcome = process.terminate(grace).await;
    let last = outcome.stderr_tail.last().map_or("", String::as_str);
    match broken {
        Some(broken) => broken,
        None => format!("{}: {last}", outcome.exit)
            .trim_end_matches([' ', ':'])
            .to_owned(),
    }
}
