//! One process of an agent, from its start to its end.
//!
//! One task owns the process and the connection; it publishes why both ended. The surprising
//! invariant: **whoever waits on a connection waits on its end too**, because the SDK keeps a
//! request whose answer cannot come any more.

use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use agentbus::protocol::jsonrpc::{MessageKind, scan};
use agentbus_process::{Limits, Process, Program, SpawnError, Stdin};
use futures_util::SinkExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, PollSender};
use tokio_util::task::TaskTracker;

use super::host::AgentHost;
use super::intake::{Fed, Intake, Shared};
use super::routes::Routes;
use crate::company::Serves;
use crate::config::{AgentConfig, Policy};
use crate::limits;
use crate::sdk::driving::{Abilities, Caller, Fault, drive};

/// Why a connection is over, as a sentence without its subject.
pub(super) type Gone = Arc<str>;

/// A running agent.
#[derive(Debug)]
pub(super) struct Link {
    /// How many processes of this agent there were before.
    pub(super) epoch: u64,
    pub(super) pid: i32,
    pub(super) caller: Caller,
    pub(super) abilities: Abilities,
    pub(super) routes: Arc<Routes>,
    gone: watch::Receiver<Option<Gone>>,
    stop: CancellationToken,
}

/// Why an agent could not be started.
#[derive(Debug)]
pub(super) enum StartError {
    Spawn(SpawnError),
    /// It ended before it had introduced itself.
    Gone(Gone),
    /// It did not answer in time.
    Silent(u64),
    /// It speaks another version.
    Version(u64),
    Fault(Fault),
}

impl Link {
    /// Starts the program and introduces the bus to it.
    pub(super) async fn start(
        config: &AgentConfig,
        (epoch, serves): (u64, Serves),
        routes: Arc<Routes>,
        host: AgentHost,
        tasks: &TaskTracker,
    ) -> Result<Self, StartError> {
        let mut process = program(config)?.spawn().await.map_err(StartError::Spawn)?;
        let pid = process.id();
        let (lines, outgoing) = mpsc::channel(limits::LINES_WAITING);
        let shared = Arc::new(Shared {
            routes: Arc::clone(&routes),
            asked: AtomicUsize::new(0),
            lines: lines.clone(),
            fed: watch::Sender::new(None),
            version: OnceLock::new(),
        });
        let (Some(stdin), Some(stdout)) = (process.take_stdin(), process.take_stdout()) else {
            return Err(StartError::Gone("has no pipes".into()));
        };
        let incoming = Intake::new(stdout.lines(), Arc::clone(&shared)).into_stream();
        let writing = write(stdin, outgoing, Arc::clone(&shared));
        let host = Arc::new(host);
        let (ready, caller) = oneshot::channel();
        let (publish, mut gone) = watch::channel(None);
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let lines = PollSender::new(lines).sink_map_err(io::Error::other);
        let driving = drive(lines, incoming, host, ready, stop.clone());
        let running = Running {
            process,
            shared: Arc::clone(&shared),
            stop: stop.clone(),
        };
        tasks.spawn(async move {
            publish.send_replace(Some(running.until_the_end(driving, writing).await));
        });
        let Ok(caller) = caller.await else {
            return Err(StartError::Gone(ended(&mut gone).await));
        };
        let abilities = introduce(config, serves, &caller, &shared, &mut gone).await?;
        guard.disarm();
        Ok(Self {
            epoch,
            pid,
            caller,
            abilities,
            routes,
            gone,
            stop,
        })
    }

    /// Resolves when the connection is over.
    pub(super) async fn gone(&self) -> Gone {
        ended(&mut self.gone.clone()).await
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.borrow().is_some() || self.stop.is_cancelled()
    }

    /// Waits for an answer, but not longer than there is somebody to give it.
    pub(super) async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Fault>, Gone> {
        answer_or_end(answer, &mut self.gone.clone()).await
    }

    /// Ends the process and waits until it has.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.gone().await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn program(config: &AgentConfig) -> Result<Program, StartError> {
    let argv = config.command.iter().map(Into::into).collect();
    let program =
        Program::from_argv(argv).map_err(|error| StartError::Gone(error.to_string().into()))?;
    let limits = Limits {
        line_bytes: limits::LINE_BYTES,
        pipe_grace: limits::EXIT_GRACE,
        ..Limits::default()
    };
    let program = program.limits(limits).current_dir(config.directory());
    let add = |program: Program, (name, value)| program.env(name, value);
    Ok(config.env.iter().fold(program, add))
}

async fn introduce(
    config: &AgentConfig,
    serves: Serves,
    caller: &Caller,
    shared: &Shared,
    gone: &mut watch::Receiver<Option<Gone>>,
) -> Result<Abilities, StartError> {
    let patience = config.limits.initialize();
    let asks = config.policy != Policy::Deny;
    let said = answer_or_end(caller.initialize(serves, asks), gone);
    let said = tokio::time::timeout(patience, said)
        .await
        .map_err(|_| StartError::Silent(patience.as_secs()))?;
    let said = said.map_err(StartError::Gone)?;
    // The SDK makes a fault of another version, without the number.
    match shared.version.get() {
        Some(1) | None => said.map_err(StartError::Fault),
        Some(version) => Err(StartError::Version(*version)),
    }
}

/// The SDK fails what is pending when the agent hangs up; why it did is known a moment later.
async fn answer_or_end<T>(
    answer: impl Future<Output = Result<T, Fault>>,
    gone: &mut watch::Receiver<Option<Gone>>,
) -> Result<Result<T, Fault>, Gone> {
    let answer = tokio::select! {
        biased;
        answer = answer => answer,
        gone = ended(gone) => return Err(gone),
    };
    match answer {
        Err(fault) if fault.hung_up => Err(ended(gone).await),
        answer => Ok(answer),
    }
}

async fn ended(gone: &mut watch::Receiver<Option<Gone>>) -> Gone {
    match gone.wait_for(Option::is_some).await {
        Ok(gone) => gone.clone(),
        // The task was aborted with its runtime.
        Err(_) => None,
    }
    .unwrap_or_else(|| "was ended with the bus".into())
}

/// What the task of a connection owns.
struct Running {
    process: Process,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Running {
    /// Runs the connection to its end, ends the process, and says why.
    async fn until_the_end(
        mut self,
        driving: impl Future<Output = ()>,
        writing: impl Future<Output = ()>,
    ) -> Gone {
        let connection = async { tokio::join!(driving, writing) };
        tokio::pin!(connection);
        let fed = tokio::select! {
            _ = &mut connection => None,
            () = self.stop.cancelled() => None,
            fed = self.shared.ended() => Some(fed),
            _ = self.process.wait() => {
                // What it wrote last is still in the pipe.
                let rest = async { tokio::join!(&mut connection, self.shared.ended()) };
                let _ = tokio::time::timeout(limits::EXIT_GRACE, rest).await;
                None
            }
        };
        if self.stop.is_cancelled() {
            self.process.terminate(limits::STOP_GRACE).await;
            return "was stopped".into();
        }
        let fed = fed.or_else(|| self.shared.fed.borrow().clone());
        self.sentence(fed).await.into()
    }

    async fn sentence(&mut self, fed: Option<Fed>) -> String {
        let sentence = match fed {
            Some(Fed::Garbage(line)) => format!(
                "wrote more than {} lines that are no messages, the last of them {line:?}; it has \
                 to write its log to standard error",
                limits::GARBAGE_LINES
            ),
            Some(Fed::LineTooLong(limit)) => format!("wrote a line of more than {limit} bytes"),
            Some(Fed::HungUp) | None => {
                let exit = tokio::time::timeout(limits::EXIT_GRACE, self.process.wait());
                match exit.await {
                    Ok(outcome) => return format!("ended ({outcome})"),
                    Err(_) => "closed its output and was ended".to_owned(),
                }
            }
        };
        self.process.terminate(limits::EXIT_GRACE).await;
        sentence
    }
}

/// Writes lines to the agent, those of the SDK and refusals in between. Ends when the agent does
/// not read any more; its output says what that means.
async fn write(mut stdin: Stdin, mut lines: mpsc::Receiver<String>, shared: Arc<Shared>) {
    while let Some(line) = lines.recv().await {
        let answers = scan(line.as_bytes()).is_ok_and(|it| it.kind() == MessageKind::Response);
        if answers {
            shared.answered();
        }
        let mut bytes = line.into_bytes();
        bytes.push(b'\n');
        if let Err(error) = stdin.write_all(&bytes).await {
            tracing::debug!(%error, "an agent does not read any more");
            return;
        }
    }
}
