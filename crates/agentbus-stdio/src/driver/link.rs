//! The one task of a peer: reads when it may, and waits for room when something is queued.
//!
//! The descriptor is registered for reading only. A registration for writing exists, on a
//! duplicate, only while something waits: a permanent one wakes the task each time the peer
//! reads. A short read means that nothing is left, so no second call asks for it.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep_until};

use super::bell::Bell;
use super::watch::watch;

/// What a peer's task should wait for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    /// Something to read.
    pub(super) read: bool,
    /// Room to write.
    pub(super) write: bool,
    /// This moment.
    pub(super) until: Option<Instant>,
    /// Nothing: the peer is done.
    pub(super) ended: bool,
}

/// What a peer's task does when its wait is over.
pub(super) trait Side: Send {
    /// Reads once. Returns the new wish, and whether nothing is left to read.
    fn readable(&mut self, descriptor: &OwnedFd) -> (Wish, bool);
    /// Writes what waits. Returns the new wish, and whether there is no more room.
    fn writable(&mut self) -> (Wish, bool);
    /// Looks again, because somebody woke the task or the moment has come.
    fn look(&mut self) -> Wish;
    /// Returns the descriptor that is written to.
    fn writer(&self) -> Option<Arc<OwnedFd>>;
}

/// What a peer's task waits with.
struct Link {
    wish: Wish,
    /// Exists while something waits to be written.
    writer: Option<AsyncFd<OwnedFd>>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Drives a peer until it is done. Cancel safe: everything lives in `side`.
pub(super) async fn drive(
    side: &mut impl Side,
    reader: &AsyncFd<Arc<OwnedFd>>,
    bell: &Bell,
) -> io::Result<()> {
    let mut link = Link {
        wish: side.look(),
        writer: None,
        timer: None,
    };
    // One function that asks each source itself: it runs twice for every message, and futures
    // that are made and dropped each time would cost as much as the routing.
    poll_fn(|context| link.poll(context, side, reader, bell)).await
}

impl Link {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        side: &mut impl Side,
        reader: &AsyncFd<Arc<OwnedFd>>,
        bell: &Bell,
    ) -> Poll<io::Result<()>> {
        while !self.wish.ended {
            self.prepare(side)?;
            if bell.was_rung(context) || self.is_late(context) {
                self.wish = side.look();
            } else if self.wish.read
                && let Poll::Ready(ready) = reader.poll_read_ready(context)
            {
                let mut ready = ready?;
                let (wish, drained) = side.readable(ready.get_inner());
                if drained {
                    ready.clear_ready();
                }
                self.wish = wish;
            } else if let Some(writer) = &self.writer
                && let Poll::Ready(ready) = writer.poll_write_ready(context)
            {
                let (wish, full) = side.writable();
                if full {
                    ready?.clear_ready();
                }
                self.wish = wish;
            } else {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Has what the wish needs and nothing else.
    fn prepare(&mut self, side: &impl Side) -> io::Result<()> {
        match (&self.writer, self.wish.write) {
            (None, true) => self.writer = register(side)?,
            (Some(_), false) => self.writer = None,
            _ => {}
        }
        match (&mut self.timer, self.wish.until) {
            (Some(timer), Some(until)) if timer.deadline() != until => {
                timer.as_mut().reset(until);
            }
            (None, Some(until)) => self.timer = Some(Box::pin(sleep_until(until))),
            (Some(_), None) => self.timer = None,
            _ => {}
        }
        Ok(())
    }

    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let Some(timer) = &mut self.timer else {
            return false;
        };
        let late = timer.as_mut().poll(context).is_ready();
        if late {
            self.timer = None;
        }
        late
    }
}

fn register(side: &impl Side) -> io::Result<Option<AsyncFd<OwnedFd>>> {
    let Some(descriptor) = side.writer() else {
        return Ok(None);
    };
    let duplicate = descriptor.try_clone()?;
    watch(duplicate, Interest::WRITABLE).map(Some)
}
