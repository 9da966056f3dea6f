//! A running program: its pipes, its exit and its end.
//!
//! It promises that the group dies with the [`Process`], and that [`Process::wait`] returns
//! whatever the group does with its pipes. It does not bound how long a program may run:
//! wrap the wait in a timeout and drop or [terminate](Process::terminate) the process.
//!
//! One task per program, owned by its `Process` and aborted with it, drains standard error
//! and watches for the exit.

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::exit::{Exit, ExitOutcome};
use crate::group::Group;
use crate::limits::Limits;
use crate::pipe::{GroupPipe, Stdout};
use crate::program::OnStderr;
use crate::spawner::{self, Spawned};
use crate::stderr;

/// Standard input of a running program; dropping it tells the program that there is no more.
pub type Stdin = ChildStdin;

/// A running program and everything it started.
///
/// Dropping it kills the whole process group at once; the child is collected in the
/// background, so no zombie stays behind.
#[derive(Debug)]
pub struct Process {
    group: Arc<Group>,
    stdin: Option<Stdin>,
    stdout: Option<Stdout>,
    outcome: watch::Receiver<Option<ExitOutcome>>,
    _keeper: AbortOnDropHandle<()>,
}

impl Process {
    pub(crate) async fn start(
        command: Command,
        name: String,
        limits: Limits,
        on_stderr: Option<OnStderr>,
    ) -> io::Result<Self> {
        // Before the fork, so that no exit goes unnoticed. The stream is tokio's own handler,
        // shared: another one for this signal would break every other child of the process.
        let child_signals = signal(SignalKind::child())?;
        let Spawned {
            group,
            stdin,
            stdout,
            stderr,
        } = spawner::spawn(command).await?;
        let no_pipe = || io::Error::other("the program came without its pipes");
        let stdin = ChildStdin::from_std(stdin.ok_or_else(no_pipe)?)?;
        let stdout = ChildStdout::from_std(stdout.ok_or_else(no_pipe)?)?;
        let stderr = ChildStderr::from_std(stderr.ok_or_else(no_pipe)?)?;

        let killed = CancellationToken::new();
        let (open, pipes) = mpsc::channel(1);
        let stdout = GroupPipe::new(stdout, killed.clone(), open.clone());
        let stderr = GroupPipe::new(stderr, killed.clone(), open);
        let group = Arc::new(group);
        let (publish, outcome) = watch::channel(None);
        let pid = group.id();
        let keeper = {
            let group = Arc::clone(&group);
            async move {
                let report = |line: &str| {
                    tracing::debug!(program = %name, pid, line, "standard error");
                    if let Some(on_stderr) = &on_stderr {
                        on_stderr(line);
                    }
                };
                let (exit, stderr_tail) = tokio::join!(
                    end(&group, child_signals, pipes, limits.pipe_grace, killed),
                    stderr::drain(stderr, &limits, report),
                );
                tracing::debug!(program = %name, pid, %exit, "the program has ended");
                publish.send_replace(Some(ExitOutcome { exit, stderr_tail }));
            }
        };
        Ok(Self {
            group,
            stdin: Some(stdin),
            stdout: Some(Stdout::new(stdout, limits.line_bytes)),
            outcome,
            _keeper: AbortOnDropHandle::new(tokio::spawn(keeper)),
        })
    }

    /// Returns the process number of the program, which is the number of its group.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.group.id()
    }

    /// Takes the writer to standard input; only the first call gets it.
    ///
    /// Writing to a program that has closed its input is a broken pipe, not a fault.
    pub fn take_stdin(&mut self) -> Option<Stdin> {
        self.stdin.take()
    }

    /// Takes the reader of standard output; only the first call gets it.
    ///
    /// A program whose output nobody reads stops when the pipe is full. Drop the reader to let
    /// it run into a broken pipe instead.
    pub fn take_stdout(&mut self) -> Option<Stdout> {
        self.stdout.take()
    }

    /// Waits until the program has exited and the rest of its group has been killed.
    ///
    /// Closes standard input first unless it was taken, so that a program waiting for input
    /// ends. Returns the same outcome every time. Cancel safe.
    pub async fn wait(&mut self) -> ExitOutcome {
        drop(self.stdin.take());
        ended(self.outcome.clone()).await
    }

    /// Asks the group to end with SIGTERM, and kills it with SIGKILL after `grace`.
    ///
    /// Once the program itself has exited, the rest of its group gets no more than
    /// [`Limits::pipe_grace`]. If cancelled, the group has had its SIGTERM and nothing else;
    /// call it again or drop the process.
    pub async fn terminate(&mut self, grace: Duration) -> ExitOutcome {
        self.group.signal(Signal::TERM);
        if let Ok(outcome) = timeout(grace, self.wait()).await {
            return outcome;
        }
        self.group.signal(Signal::KILL);
        self.wait().await
    }

    /// Resolves with the outcome without borrowing the process.
    pub(crate) fn outcome(&self) -> impl Future<Output = ExitOutcome> + use<> {
        ended(self.outcome.clone())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Here and not in the task: the kill must not wait for a runtime that may be stopping.
        self.group.abandon();
    }
}

async fn ended(mut outcome: watch::Receiver<Option<ExitOutcome>>) -> ExitOutcome {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone(),
        // The task was aborted with its runtime or its process, or a callback panicked.
        Err(_) => None,
    }
    .unwrap_or(ExitOutcome {
        exit: Exit::Unknown,
        stderr_tail: Vec::new(),
    })
}

/// Waits for the leader's exit, lets the pipes run dry, then kills what is left of the group.
async fn end(
    group: &Group,
    mut child_signals: SignalStream,
    mut pipes: mpsc::Receiver<std::convert::Infallible>,
    pipe_grace: Duration,
    killed: CancellationToken,
) -> Exit {
    // The signal says that some child ended, and several may come as one; so look each time.
    while !group.leader_has_exited() {
        if child_signals.recv().await.is_none() {
            break;
        }
    }
    // Nothing is ever sent: this ends early once both pipes have been read to their end.
    let _ = timeout(pipe_grace, pipes.recv()).await;
    let exit = group.finish();
    killed.cancel();
    exit
}
