//! Read ends of a program's pipes that end when its group has been killed.
//!
//! A pipe ends when its last writer closes it, and a process that escaped from the group may
//! never do so. Once the group is gone, this reader hands out what is still in the pipe, at
//! most [`AFTER_KILL_BYTES`], and then reports the end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::limits::AFTER_KILL_BYTES;
use crate::lines::Lines;

/// Standard output of a running program.
///
/// Ends when every process of the program's group has closed it, and at the latest shortly
/// after the program's exit. Reads are cancel safe.
#[derive(Debug)]
pub struct Stdout {
    pipe: GroupPipe<ChildStdout>,
    line_bytes: usize,
}

/// Held while a pipe is open; the channel closes when the last one is dropped.
pub(crate) type OpenMark = mpsc::Sender<Infallible>;

#[derive(Debug)]
pub(crate) struct GroupPipe<P> {
    pipe: P,
    killed: CancellationToken,
    on_killed: Pin<Box<WaitForCancellationFutureOwned>>,
    left_after_kill: usize,
    /// `None` once the end has been reported.
    open: Option<OpenMark>,
}

impl Stdout {
    pub(crate) fn new(pipe: GroupPipe<ChildStdout>, line_bytes: usize) -> Self {
        Self { pipe, line_bytes }
    }

    /// Reads it line by line, none longer than the program's limit.
    #[must_use]
    pub fn lines(self) -> Lines<Self> {
        let limit = self.line_bytes;
        Lines::new(self, limit)
    }

    /// Hands out the descriptor, for a caller that reads in its own way.
    ///
    /// Keep the [`StdoutMark`] until the end has been read: while it is held, the exit of the
    /// program waits for the output, up to [`Limits::pipe_grace`](crate::Limits::pipe_grace).
    /// A process that escaped from the group can keep the descriptor open for ever; once
    /// [`Process::wait`](crate::Process::wait) has returned, nothing that matters writes to it.
    ///
    /// # Errors
    ///
    /// The system's, when the descriptor cannot be taken from the runtime.
    pub fn into_descriptor(self) -> io::Result<(OwnedFd, StdoutMark)> {
        let descriptor = self.pipe.pipe.into_owned_fd()?;
        Ok((
            descriptor,
            StdoutMark {
                _open: self.pipe.open,
            },
        ))
    }
}

/// Says that somebody still reads a program's standard output.
#[derive(Debug)]
pub struct StdoutMark {
    _open: Option<OpenMark>,
}

impl AsyncRead for Stdout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl<P: AsyncRead + AsFd + Unpin> GroupPipe<P> {
    /// Wraps a pipe that ends some time after `killed` fires.
    pub(crate) fn new(pipe: P, killed: CancellationToken, open: OpenMark) -> Self {
        let on_killed = Box::pin(killed.clone().cancelled_owned());
        Self {
            pipe,
            killed,
            on_killed,
            left_after_kill: AFTER_KILL_BYTES,
            open: Some(open),
        }
    }

    /// Reads what the pipe holds, or reports its end: the writers that matter are gone.
    fn read_rest(&self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        loop {
            match rustix::io::read(&self.pipe, &mut *buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Ok(());
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<P: AsyncRead + AsFd + Unpin> AsyncRead for GroupPipe<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.open.is_none() || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = match Pin::new(&mut this.pipe).poll_read(cx, buffer) {
            // "Pending" may only mean that the runtime has not looked yet; ask the pipe itself
            // before calling it empty.
            Poll::Pending if this.on_killed.as_mut().poll(cx).is_ready() => {
                Poll::Ready(this.read_rest(buffer))
            }
            polled => polled,
        };
        if polled.is_ready() {
            let count = buffer.filled().len() - before;
            if this.killed.is_cancelled() {
                this.left_after_kill = this.left_after_kill.saturating_sub(count);
            }
            if count == 0 || this.left_after_kill == 0 {
                this.open = None;
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe::Receiver;

    use super::*;

    struct Fixture {
        pipe: GroupPipe<Receiver>,
        writer: OwnedFd,
        killed: CancellationToken,
        marks: mpsc::Receiver<Infallible>,
    }

    fn fixture() -> Fixture {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let killed = CancellationToken::new();
        let (open, marks) = mpsc::channel(1);
        let reader = Receiver::from_owned_fd(reader).unwrap();
        let pipe = GroupPipe::new(reader, killed.clone(), open);
        Fixture {
            pipe,
            writer,
            killed,
            marks,
        }
    }

    /// Reads once, without giving the runtime a chance to look at the pipe.
    fn read_now(pipe: &mut GroupPipe<Receiver>) -> Poll<Vec<u8>> {
        let mut bytes = [0; 8];
        let mut buffer = ReadBuf::new(&mut bytes);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        Pin::new(pipe).poll_read(&mut cx, &mut buffer).map(|read| {
            read.unwrap();
            buffer.filled().to_vec()
        })
    }

    #[tokio::test]
    async fn a_kill_ends_a_pipe_that_somebody_still_holds() {
        let Fixture {
            mut pipe,
            writer,
            killed,
            mut marks,
        } = fixture();
        assert!(read_now(&mut pipe).is_pending());
        rustix::io::write(&writer, b"last words").unwrap();
        killed.cancel();
        assert_eq!(read_now(&mut pipe), Poll::Ready(b"last wor".to_vec()));
        assert_eq!(read_now(&mut pipe), Poll::Ready(b"ds".to_vec()));
        assert!(marks.try_recv() == Err(mpsc::error::TryRecvError::Empty));
        assert_eq!(read_now(&mut pipe), Poll::Ready(Vec::new()));
        assert!(marks.try_recv() == Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[tokio::test]
    async fn a_kill_wakes_a_waiting_reader() {
        let Fixture {
            mut pipe,
            writer,
            killed,
            ..
        } = fixture();
        let reader = async { pipe.read(&mut [0; 8]).await.unwrap() };
        let (count, ()) = tokio::join!(reader, async { killed.cancel() });
        assert_eq!(count, 0);
        drop(writer);
    }

    #[tokio::test]
    async fn an_endless_writer_is_cut_off_after_the_kill() {
        let Fixture {
            mut pipe,
            writer,
            killed,
            ..
        } = fixture();
        let writer =
            std::thread::spawn(move || while rustix::io::write(&writer, &[0; 4096]).is_ok() {});
        killed.cancel();
        let mut total = 0;
        let mut chunk = [0; 4096];
        loop {
            match pipe.read(&mut chunk).await.unwrap() {
                0 => break,
                count => total += count,
            }
        }
        assert!(total <= AFTER_KILL_BYTES + chunk.len(), "{total}");
        drop(pipe);
        writer.join().unwrap();
    }
}
