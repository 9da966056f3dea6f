//! One agent under way: a program, what goes in and what comes out.

use std::time::Duration;

use agentbus_process::{Process, Program};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::bearer::Bearer;
use super::codes::Refusal;
use super::router::Asker;

/// What an agent's task tells the launcher.
#[derive(Debug)]
pub(super) enum Event {
    /// It wrote a line.
    Line(String, String),
    /// It is gone, and who waits for it gets this answer.
    Gone(String, Refusal),
    /// A request of this id of ours cannot be passed on.
    Refused(u64, Refusal),
    /// A login at a provider that a client asked for is over.
    LoggedIn {
        provider: String,
        asker: Asker,
        outcome: Result<(), Refusal>,
    },
}

/// A line for an agent, with our id if it is a request.
pub(super) type Outgoing = (Option<u64>, String);

/// An agent to be served.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) id: String,
    pub(super) lines: mpsc::Receiver<Outgoing>,
    /// What goes with its messages, if a provider hands something out.
    pub(super) bearer: Option<Bearer>,
    pub(super) grace: Duration,
}

/// Serves an agent until it ends, or until `stop` fires and it has had its grace to end.
pub(super) async fn serve(
    served: Served,
    program: Result<Program, Refusal>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    let id = served.id.clone();
    let refusal = match start(&served, program, &stop).await {
        Ok(process) => {
            let how = run(served, process, &events, &stop).await;
            Refusal::ended(&id, &how)
        }
        Err(refusal) => refusal,
    };
    // The launcher hears no more events once it has stopped.
    let _ = events.send(Event::Gone(id, refusal)).await;
}

async fn start(
    served: &Served,
    program: Result<Program, Refusal>,
    stop: &CancellationToken,
) -> Result<Process, Refusal> {
    let id = &served.id;
    let program = program?;
    if let Some(bearer) = &served.bearer {
        // An agent that nobody may use is not started; a person may take minutes to log in.
        tokio::select! {
            ready = bearer.ready(id) => ready?,
            () = stop.cancelled() => return Err(Refusal::ended(id, "the launcher stops")),
        }
    }
    let name = id.clone();
    let program = program.on_stderr(move |line| tracing::info!(agent = name, "{line}"));
    let started = program.spawn().await;
    started.map_err(|error| Refusal::not_started(id, &error.to_string()))
}

/// Passes lines both ways; returns how the program ended.
async fn run(
    served: Served,
    mut process: Process,
    events: &mpsc::Sender<Event>,
    stop: &CancellationToken,
) -> String {
    let Served {
        id,
        mut lines,
        bearer,
        grace,
    } = served;
    let (Some(mut stdin), Some(stdout)) = (process.take_stdin(), process.take_stdout()) else {
        return "it came without its pipes".to_owned();
    };
    let writing = async {
        while let Some((request, line)) = lines.recv().await {
            let stamped = match &bearer {
                Some(bearer) => bearer.stamped(&id, line).await,
                None => Ok(line),
            };
            let mut line = match (stamped, request) {
                (Ok(line), _) => line,
                (Err(refusal), Some(request)) => {
                    let _ = events.send(Event::Refused(request, refusal)).await;
                    continue;
                }
                (Err(_), None) => continue,
            };
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
                        let _ = events.send(Event::Line(id.clone(), line)).await;
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
