//! Bytes on their way in.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};

use crate::limits::READ_BYTES;

thread_local! {
    /// One buffer serves all connections of a thread: what is read is taken apart before the next
    /// read, and an idle connection holds no buffer at all.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Registers a descriptor for one kind of readiness.
#[allow(
    deprecated,
    reason = "the replacement is unsafe for types that could change their descriptor; ours own it"
)]
pub(super) fn watch(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::with_interest(fd, interest)
}

/// Something that bytes are read from.
pub(super) trait Inlet {
    /// Reads once; 0 bytes mean the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
}

/// A socket or pipe. It is registered for reading only.
#[derive(Debug)]
pub(super) struct Descriptor(AsyncFd<Arc<OwnedFd>>);

impl Descriptor {
    /// Takes a descriptor that does not block.
    pub(super) fn new(fd: Arc<OwnedFd>) -> io::Result<Self> {
        Ok(Self(watch(fd, Interest::READABLE)?))
    }
}

impl Inlet for Descriptor {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.0.poll_read_ready(cx))?;
            match rustix::io::read(self.0.get_ref().as_fd(), &mut *buffer) {
                Ok(count) => {
                    // A short read has emptied the descriptor; asking again would only say so.
                    if 0 < count && count < buffer.len() {
                        readable.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => readable.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl Inlet for agentbus_process::Stdout {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(buffer);
        ready!(AsyncRead::poll_read(Pin::new(self), cx, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }
}

/// Reads once and hands the bytes on. `None` at the end, which a failed read is too.
pub(super) async fn read<T>(inlet: &mut impl Inlet, mut take: impl FnMut(&[u8]) -> T) -> Option<T> {
    std::future::poll_fn(|cx| {
        let mut buffer = BUFFER.take();
        buffer.resize(READ_BYTES, 0);
        let read = inlet.poll_read(cx, &mut buffer);
        let taken = read.map(|read| match read {
            Ok(0) | Err(_) => None,
            Ok(count) => Some(take(&buffer[..count])),
        });
        BUFFER.set(buffer);
        taken
    })
    .await
}
