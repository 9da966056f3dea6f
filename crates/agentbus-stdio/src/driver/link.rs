//! The one task of a peer: reads when it may, and waits for room when something is queued.
//!
//! The descriptor is registered for reading only. A registration for writing exists, on a
//! duplicate, only while something waits: a permanent one wakes the task each time the peer
//! reads. A short read means that nothing is left, so no second call asks for it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Instant;

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

/// Drives a peer until it is done. Cancel safe: everything lives in `side`.
pub(super) async fn drive(
    side: &mut impl Side,
    reader: &AsyncFd<Arc<OwnedFd>>,
    wake: &Notify,
) -> io::Result<()> {
    let mut wish = side.look();
    let mut writer: Option<AsyncFd<OwnedFd>> = None;
    while !wish.ended {
        match (&writer, wish.write) {
            (None, true) => writer = register(side)?,
            (Some(_), false) => writer = None,
            _ => {}
        }
        tokio::select! {
            ready = reader.readable(), if wish.read => {
                let mut ready = ready?;
                let (next, drained) = side.readable(ready.get_inner());
                if drained {
                    ready.clear_ready();
                }
                wish = next;
            }
            ready = room(writer.as_ref()), if writer.is_some() => {
                let (next, full) = side.writable();
                if let (Some(mut ready), true) = (ready?, full) {
                    ready.clear_ready();
                }
                wish = next;
            }
            () = wake.notified() => wish = side.look(),
            () = moment(wish.until), if wish.until.is_some() => wish = side.look(),
        }
    }
    Ok(())
}

fn register(side: &impl Side) -> io::Result<Option<AsyncFd<OwnedFd>>> {
    let Some(descriptor) = side.writer() else {
        return Ok(None);
    };
    let duplicate = descriptor.try_clone()?;
    watch(duplicate, Interest::WRITABLE).map(Some)
}

type Ready<'a> = tokio::io::unix::AsyncFdReadyGuard<'a, OwnedFd>;

async fn room(writer: Option<&AsyncFd<OwnedFd>>) -> io::Result<Option<Ready<'_>>> {
    match writer {
        Some(writer) => writer.writable().await.map(Some),
        None => Ok(None),
    }
}

async fn moment(until: Option<Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until).await;
    }
}
