//! Private subjects for replies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentbus_protocol::Subject;
use foldhash::quality::RandomState;
use parking_lot::Mutex;

use super::NAME;
use super::mailbox::Mailbox;
use crate::{TransportError, limits};

/// Calls from several threads open inboxes at the same time; sixteen locks keep them apart.
const SHARDS: usize = 16;

/// Where the random part of `_INBOX.…` begins.
const RANDOM_BYTE: usize = 7;

type Shard = HashMap<Subject, Arc<Mailbox>, RandomState>;

/// All open inboxes.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    shards: [Mutex<Shard>; SHARDS],
    open: AtomicUsize,
}

impl Inboxes {
    pub(super) fn open(&self, subject: Subject) -> Result<Arc<Mailbox>, TransportError> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits::INBOXES_MAX {
            self.open.fetch_sub(1, Ordering::Relaxed);
            let limit = limits::INBOXES_MAX;
            return Err(TransportError::TooMany {
                transport: NAME,
                what: "inboxes",
                limit,
            });
        }
        let mailbox = Arc::new(Mailbox::new(subject.clone()));
        self.shard(subject.as_str())
            .lock()
            .insert(subject, Arc::clone(&mailbox));
        Ok(mailbox)
    }

    pub(super) fn find(&self, subject: &Subject) -> Option<Arc<Mailbox>> {
        self.shard(subject.as_str())
            .lock()
            .get(subject)
            .map(Arc::clone)
    }

    /// Tells the caller behind an inbox, if it is still there, that its request was given up.
    pub(super) fn lose(&self, subject: &Subject) {
        if let Some(mailbox) = self.find(subject) {
            mailbox.lose();
        }
    }

    pub(super) fn close(&self, mailbox: &Mailbox) {
        let subject = mailbox.subject.as_str();
        if self.shard(subject).lock().remove(subject).is_some() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        mailbox.end();
    }

    pub(super) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        let all = |shard: &Mutex<Shard>| -> Vec<Arc<Mailbox>> {
            shard.lock().values().map(Arc::clone).collect()
        };
        self.shards.iter().flat_map(all).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Inboxes spread evenly over the locks because their subjects are random.
    fn shard(&self, subject: &str) -> &Mutex<Shard> {
        let byte = subject
            .as_bytes()
            .get(RANDOM_BYTE)
            .copied()
            .unwrap_or_default();
        &self.shards[usize::from(byte) % SHARDS]
    }
}
