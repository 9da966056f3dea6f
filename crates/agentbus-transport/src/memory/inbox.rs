//! Private subjects for replies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentbus_protocol::{Pattern, Subject};
use parking_lot::Mutex;

use super::queue::{Queue, QueueOptions};
use super::{Delays, NAME};
use crate::{Overflow, TransportError, limits};

/// Calls from several threads open inboxes at the same time; sixteen locks keep them apart.
const SHARDS: usize = 16;

/// Where the random part of `_INBOX.…` begins.
const RANDOM_BYTE: usize = 7;

/// All open inboxes.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    shards: [Mutex<HashMap<Subject, Arc<Queue>>>; SHARDS],
    open: AtomicUsize,
}

impl Inboxes {
    pub(super) fn open(
        &self,
        subject: &Subject,
        delays: &Arc<Delays>,
    ) -> Result<Arc<Queue>, TransportError> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits::INBOXES_MAX {
            self.open.fetch_sub(1, Ordering::Relaxed);
            let limit = limits::INBOXES_MAX;
            return Err(TransportError::TooMany {
                transport: NAME,
                what: "inboxes",
                limit,
            });
        }
        let options = QueueOptions {
            capacity: limits::INBOX_CAPACITY,
            overflow: Overflow::Wait,
            acknowledge: false,
        };
        let queue = Queue::new(Pattern::from(subject), None, options, Arc::clone(delays));
        let queue = Arc::new(queue);
        self.shard(subject.as_str())
            .lock()
            .insert(subject.clone(), Arc::clone(&queue));
        Ok(queue)
    }

    pub(super) fn find(&self, subject: &Subject) -> Option<Arc<Queue>> {
        self.shard(subject.as_str())
            .lock()
            .get(subject)
            .map(Arc::clone)
    }

    pub(super) fn close(&self, queue: &Arc<Queue>) {
        let name = queue.pattern.as_str();
        if self.shard(name).lock().remove(name).is_some() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        queue.end();
    }

    pub(super) fn queues(&self) -> Vec<Arc<Queue>> {
        let all = |shard: &Mutex<HashMap<Subject, Arc<Queue>>>| -> Vec<Arc<Queue>> {
            shard.lock().values().map(Arc::clone).collect()
        };
        self.shards.iter().flat_map(all).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Inboxes spread evenly over the locks because their subjects are random.
    fn shard(&self, subject: &str) -> &Mutex<HashMap<Subject, Arc<Queue>>> {
        let byte = subject
            .as_bytes()
            .get(RANDOM_BYTE)
            .copied()
            .unwrap_or_default();
        &self.shards[usize::from(byte) % SHARDS]
    }
}
