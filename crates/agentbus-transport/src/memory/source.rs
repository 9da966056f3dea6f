//! A receiver at a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::Broker;
use super::queue::{Entry, Queue};
use crate::{Received, Source};

/// Where a queue is known, and so where it has to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    Registry,
    Inboxes,
}

/// One subscription's or one inbox's receiving end.
#[derive(Debug)]
pub(super) struct MemorySource {
    broker: Arc<Broker>,
    queue: Arc<Queue>,
    home: Home,
    receiver: u64,
    /// Room for the entries of one batch; empty between calls.
    taken: Vec<Entry>,
    /// ## Joined => (Draining | Left)
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Receives what comes.
    Joined,
    /// Was stopped and receives what is left in the queue, which is its own.
    Draining,
    /// Was stopped and left the queue to the other members of its group.
    Left,
}

impl MemorySource {
    pub(super) fn new(broker: Arc<Broker>, queue: Arc<Queue>, home: Home) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let receiver = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            broker,
            queue,
            home,
            receiver,
            taken: Vec::new(),
            standing: Standing::Joined,
        }
    }
}

impl Source for MemorySource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        if self.standing == Standing::Left {
            return Poll::Ready(0);
        }
        self.queue
            .poll_receive(self.receiver, cx, &mut self.taken, batch, max.max(1))
    }

    fn stop(&mut self) {
        if self.standing != Standing::Joined {
            return;
        }
        let alone = match self.home {
            Home::Registry => self.broker.registry.stop(&self.queue),
            Home::Inboxes => {
                self.queue.stop();
                true
            }
        };
        self.standing = if alone {
            Standing::Draining
        } else {
            Standing::Left
        };
        self.queue.forget(self.receiver);
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        if self.standing != Standing::Left {
            self.broker.leave(&self.queue, self.home);
        }
        self.queue.forget(self.receiver);
    }
}
