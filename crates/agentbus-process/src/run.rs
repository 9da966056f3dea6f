//! Runs a program once: input in, output out.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::error::RunError;
use crate::exit::ExitOutcome;
use crate::limits::READ_BYTES;
use crate::process::Stdin;
use crate::program::Program;

/// What a program wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Everything it wrote to standard output.
    pub stdout: Bytes,
    /// How it ended; a failure is for the caller to judge.
    pub outcome: ExitOutcome,
}

impl Program {
    /// Starts it, writes `input` while reading its output, and waits for its end.
    ///
    /// A program may leave its input unread. Cancel safe: dropping the future kills the whole
    /// process group.
    ///
    /// # Errors
    ///
    /// A [`RunError`] if it did not start, wrote more than
    /// [`Limits::output_bytes`](crate::Limits::output_bytes), or a pipe failed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), agentbus_process::RunError> {
    /// use agentbus_process::Program;
    ///
    /// let output = Program::new("cat").run("hello".into()).await?;
    /// assert_eq!(output.stdout, "hello");
    /// assert!(output.outcome.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(&self, input: Bytes) -> Result<Output, RunError> {
        let pipe = |source| RunError::Pipe {
            program: self.display_name(),
            source,
        };
        let mut process = self.spawn().await?;
        let (stdin, stdout) = (process.take_stdin(), process.take_stdout());
        let ended = process.outcome();
        let feed = async {
            // A process that escaped from the group may hold the pipe and never read it.
            tokio::select! {
                written = write_all(stdin, &input) => written.map_err(pipe),
                _ = ended => Ok(()),
            }
        };
        let limit = self.output_bytes();
        let collect = async {
            let Some(stdout) = stdout else {
                return Ok(Bytes::new());
            };
            let output = read_all(stdout, limit).await.map_err(pipe)?;
            output.ok_or_else(|| RunError::OutputTooLarge {
                program: self.display_name(),
                limit,
            })
        };
        let ((), stdout) = tokio::try_join!(feed, collect)?;
        Ok(Output {
            stdout,
            outcome: process.wait().await,
        })
    }
}

async fn write_all(stdin: Option<Stdin>, input: &[u8]) -> io::Result<()> {
    let Some(mut stdin) = stdin else {
        return Ok(());
    };
    match stdin.write_all(input).await {
        // The program has read all it wants.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Reads to the end; `None` if there are more than `limit` bytes.
async fn read_all(mut reader: impl AsyncRead + Unpin, limit: usize) -> io::Result<Option<Bytes>> {
    let mut output = BytesMut::new();
    loop {
        output.reserve(READ_BYTES);
        let count = reader.read_buf(&mut output).await?;
        if output.len() > limit {
            return Ok(None);
        }
        if count == 0 {
            return Ok(Some(output.freeze()));
        }
    }
}
