//! A receiver at a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::Broker;
use super::queue::{Entry, Queue};
use crate::{Received, Source};

/// One subscription's receiving end.
#[derive(Debug)]
pub(super) struct MemorySource {
    broker: Arc<Broker>,
    queue: Arc<Queue>,
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
    pub(super) fn new(broker: Arc<Broker>, queue: Arc<Queue>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let receiver = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            broker,
            queue,
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
        let alone = self.broker.registry.stop(&self.queue);
        self.standing = if alone {
            Standing::Draining
        } else {
            Standing::Left
        };
        self.queue.forget(self.receiver);
    }

    fn stand_down(&mut self) {
        self.queue.forget(self.receiver);
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        if self.standing != Standing::Left {
            self.broker.registry.leave(&self.queue);
        }
        self.queue.forget(self.receiver);
    }
}
