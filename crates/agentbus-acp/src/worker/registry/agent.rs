//! One agent under way: a program, what goes in and what comes out.

use std::time::Duration;

use agentbus_process::{Process, Program, Stdout};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::bearer::Bearer;
use super::codes::Refusal;
use super::router::Asker;
use crate::worker::limits::FIRST_WORD_MAX;

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
    let (asked, spoke) = (Notify::new(), Notify::new());
    let writing = async {
        while let Some(line) = lines.recv().await {
            let request = line.0.is_some();
            let Some(line) = stamped(&id, bearer.as_ref(), line, events).await else {
                continue;
            };
            // The end of the program is seen where it is read.
            if stdin.write_all(line.as_bytes()).await.is_err() {
                break;
            }
            if request {
                asked.notify_one();
            }
        }
        std::future::pending::<()>().await;
    };
    let silent = async {
        asked.notified().await;
        if timeout(FIRST_WORD_MAX, spoke.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let broken = tokio::select! {
        broken = listen(&id, stdout, &spoke, events) => broken,
        () = silent => Some(format!(
            "it said nothing for {} s after it was first asked; does it speak ACP?",
            FIRST_WORD_MAX.as_secs()
        )),
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

/// Passes on what a program writes until it ends; returns what was wrong with it, if anything was.
async fn listen(
    agent: &str,
    stdout: Stdout,
    spoke: &Notify,
    events: &mpsc::Sender<Event>,
) -> Option<String> {
    let mut lines = stdout.lines();
    loop {
        match lines.next().await {
            Ok(Some(line)) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                // A banner is no word to whoever waits.
                if line.starts_with('{') {
                    spoke.notify_one();
                }
                if !line.trim().is_empty() {
                    let _ = events.send(Event::Line(agent.to_owned(), line)).await;
                }
            }
            Ok(None) => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
}

/// Makes a line for the agent of what waits for it; none if it cannot be passed on.
async fn stamped(
    agent: &str,
    bearer: Option<&Bearer>,
    (request, line): Outgoing,
    events: &mpsc::Sender<Event>,
) -> Option<String> {
    let stamped = match bearer {
        Some(bearer) => bearer.stamped(agent, line).await,
        None => Ok(line),
    };
    match (stamped, request) {
        (Ok(line), _) => Some(line + "\n"),
        (Err(refusal), Some(request)) => {
            let _ = events.send(Event::Refused(request, refusal)).await;
            None
        }
        (Err(_), None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_never_says_a_word_is_given_up() {
        let script = "echo Welcome; exec sleep 600";
        let program = Program::new("sh").args(["-c", script]);
        let (queue, lines) = mpsc::channel(1);
        queue.send((Some(7), "{}".to_owned())).await.unwrap();
        let (events, mut heard) = mpsc::channel(4);
        let served = Served {
            id: "mute".to_owned(),
            lines,
            bearer: None,
            grace: Duration::from_secs(1),
        };
        serve(served, Ok(program), events, CancellationToken::new()).await;
        loop {
            match heard.recv().await.unwrap() {
                Event::Line(_, line) => assert_eq!(line, "Welcome"),
                Event::Gone(agent, refusal) => {
                    let why = refusal.sentence();
                    assert!(why.contains("said nothing for 120 s"), "{why}");
                    return assert_eq!(agent, "mute");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
