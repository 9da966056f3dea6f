//! Bytes on their way out.
//!
//! A message is written at once where the descriptor takes it; what it does not take waits here
//! and is written by the outlet's own task when it is ready again. That task registers its
//! interest in writing only while something waits: a standing interest would wake the runtime
//! each time that the other side reads.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use tokio::sync::Notify;

use crate::limits::IDLE_BUFFER_BYTES;

#[derive(Debug)]
pub(super) struct Outlet {
    fd: Arc<OwnedFd>,
    queue: Vec<u8>,
    /// How much of the queue is written.
    written: usize,
    /// Whether the descriptor took less than it was given.
    blocked: bool,
    /// Whether nobody reads any more.
    broken: bool,
    /// Whether the connection ends when the queue is empty.
    closing: bool,
    /// Since when more waits than its owner likes; see the client's overdraft.
    pub(super) over_since: Option<Instant>,
    signals: Arc<Signals>,
}

/// What the tasks around an outlet wait for.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Something waits to be written, or the outlet is to end.
    pub(super) work: Notify,
    /// Less waits than before, or nothing ever will again.
    pub(super) room: Notify,
}

impl Outlet {
    pub(super) fn new(fd: Arc<OwnedFd>) -> Self {
        Self {
            fd,
            queue: Vec::new(),
            written: 0,
            blocked: false,
            broken: false,
            closing: false,
            over_since: None,
            signals: Arc::default(),
        }
    }

    pub(super) fn signals(&self) -> Arc<Signals> {
        Arc::clone(&self.signals)
    }

    pub(super) fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len() - self.written
    }

    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether nothing will be written any more.
    pub(super) fn is_over(&self) -> bool {
        self.broken || (self.closing && self.len() == 0)
    }

    /// Queues bytes; they are written with the next [`write`](Self::write).
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.broken && !self.closing {
            self.queue.extend_from_slice(bytes);
        }
    }

    /// Takes no more; what waits is still written.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Gives up what waits.
    pub(super) fn cut(&mut self) {
        self.broken = true;
        self.queue = Vec::new();
        self.written = 0;
        self.signal();
    }

    /// Writes what the descriptor takes, without waiting.
    pub(super) fn write(&mut self) {
        self.blocked = false;
        while self.written < self.queue.len() {
            match rustix::io::write(self.fd.as_fd(), &self.queue[self.written..]) {
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "the other side has closed");
                    return self.cut();
                }
            }
        }
        self.tidy();
        if self.blocked || self.is_over() {
            self.signal();
        } else {
            self.signals.room.notify_waiters();
        }
    }

    /// Frees what is written, in time proportional to what was ever queued.
    fn tidy(&mut self) {
        if self.written == self.queue.len() {
            self.queue.clear();
            self.queue.shrink_to(IDLE_BUFFER_BYTES);
            self.written = 0;
        } else if self.written > self.queue.len() / 2 {
            self.queue.drain(..self.written);
            self.written = 0;
        }
    }

    fn signal(&self) {
        self.signals.work.notify_one();
        self.signals.room.notify_waiters();
    }
}
