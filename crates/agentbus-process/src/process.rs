//! A program that runs.

use std::future::Future;
use std::io;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::maybe_done;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::limits::PIPE_GRACE;
use crate::stderr::Stderr;
use crate::{Lines, OUTPUT_BYTES_MAX};

/// A running program. Dropping it kills its whole process group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Group,
    stderr: Stderr,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The last lines of its standard error, oldest first.
    pub stderr: Vec<String>,
}

impl Exit {
    /// Whether the program says that it did what it should.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// The last line of standard error that is not blank.
    #[must_use]
    pub fn last_words(&self) -> Option<&str> {
        self.stderr
            .iter()
            .rev()
            .map(|line| line.trim())
            .find(|line| !line.is_empty())
    }
}

impl Process {
    pub(crate) fn new(name: String, mut child: Child) -> Self {
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)));
        let stderr = Stderr::new(name, child.stderr.take());
        Self {
            child,
            group,
            stderr,
        }
    }

    /// Feeds the program, reads everything that it prints, and waits for its end.
    ///
    /// # Errors
    /// Fails when it prints more than [`OUTPUT_BYTES_MAX`], or when a pipe fails.
    pub async fn run(mut self, input: Bytes) -> io::Result<(Bytes, Exit)> {
        let (stdin, stdout) = self.pipes()?;
        let feeding = feed(stdin, input);
        let reading = read_all(stdout);
        let (output, exit) = {
            let together = async { tokio::join!(feeding, reading).1 };
            self.until_end(together).await?
        };
        Ok((output?, exit))
    }

    /// Feeds the program and hands its lines to `take` one by one, then waits for its end.
    ///
    /// # Errors
    /// Fails with the error of `take`, which stops the program, or when a pipe fails.
    pub async fn run_lines<E, F>(
        mut self,
        input: Bytes,
        mut take: impl FnMut(Bytes) -> F,
    ) -> Result<Exit, E>
    where
        E: From<io::Error>,
        F: Future<Output = Result<(), E>>,
    {
        let (stdin, stdout) = self.pipes()?;
        let reading = async {
            let mut lines = Lines::new(stdout);
            while let Some(line) = lines.next().await.map_err(io::Error::from)? {
                take(line).await?;
            }
            Ok(())
        };
        let together = async { tokio::join!(feed(stdin, input), reading).1 };
        let (outcome, exit) = self.until_end(together).await?;
        outcome.map(|()| exit)
    }

    fn pipes(&mut self) -> io::Result<(ChildStdin, ChildStdout)> {
        let closed = || io::Error::other("the program has no pipes");
        let stdin = self.child.stdin.take().ok_or_else(closed)?;
        Ok((stdin, self.child.stdout.take().ok_or_else(closed)?))
    }

    /// Runs the pipes until they close. When the program ends and something that it started keeps
    /// them open, that is killed after a short grace, so that nobody waits for it.
    async fn until_end<T>(&mut self, pipes: impl Future<Output = T>) -> io::Result<(T, Exit)> {
        // May be polled again after its end, which the two steps below need.
        let mut pipes = pin!(maybe_done(pipes));
        let stderr = &mut self.stderr;
        let ended = tokio::select! {
            _ = async { tokio::join!(pipes.as_mut(), stderr.drain()) } => false,
            status = self.child.wait() => status.map(|_| true)?,
        };
        if ended {
            let rest = async { tokio::join!(pipes.as_mut(), self.stderr.drain()) };
            if tokio::time::timeout(PIPE_GRACE, rest).await.is_err() {
                self.group.kill();
                pipes.as_mut().await;
            }
        }
        let status = self.child.wait().await?;
        self.group.kill();
        let stderr = std::mem::take(&mut self.stderr.lines).into();
        let output = pipes.as_mut().take_output();
        let output = output.ok_or_else(|| io::Error::other("the pipes were not read"))?;
        Ok((
            output,
            Exit {
                code: status.code(),
                stderr,
            },
        ))
    }
}

/// Writes the input and closes the pipe. A program that does not read its input is no error.
async fn feed(mut stdin: ChildStdin, input: Bytes) {
    let _ = stdin.write_all(&input).await;
}

async fn read_all(stdout: ChildStdout) -> io::Result<Bytes> {
    let mut output = Vec::new();
    let most = OUTPUT_BYTES_MAX as u64 + 1;
    stdout.take(most).read_to_end(&mut output).await?;
    if output.len() > OUTPUT_BYTES_MAX {
        let message = format!("the program printed more than {OUTPUT_BYTES_MAX} bytes");
        return Err(io::Error::other(message));
    }
    Ok(output.into())
}

/// The process group of a program, killed when this is dropped.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    /// Kills what is left of the group. The group's number stays taken while any member lives,
    /// and the leader is reaped only by us, so it cannot be somebody else's by now.
    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // No such group means that all of it has ended, which is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
