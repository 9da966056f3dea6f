//! Private subjects for replies.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentbus_protocol::Subject;
use parking_lot::Mutex;

use super::NAME;
use super::mailbox::Mailbox;
use crate::{TransportError, limits};

/// Calls from several threads open inboxes at the same time; sixteen locks keep them apart.
const SHARDS: usize = 16;

type Shard = HashMap<u128, Arc<Mailbox>, BuildHasherDefault<AsItIs>>;

/// Takes the token of an inbox for its hash: it is random, and nobody but us chooses one that
/// becomes a key.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, token: &[u8]) {
        // Letters and digits have few bits that differ. Multiplied, these reach the upper half,
        // which becomes the lower one, by which a map chooses.
        let halves = token
            .chunks_exact(8)
            .map(|half| half.try_into().unwrap_or_default());
        let mixed = halves
            .map(u64::from_ne_bytes)
            .fold(0, |mixed, half| mixed ^ half);
        self.0 = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The name of an inbox within this broker.
fn token(subject: &Subject) -> Option<u128> {
    subject.inbox_token().map(u128::from_ne_bytes)
}

/// All open inboxes.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    shards: [Mutex<Shard>; SHARDS],
    open: AtomicUsize,
}

impl Inboxes {
    /// Opens the inbox of a new subject.
    pub(super) fn open(&self, subject: &Subject) -> Result<Arc<Mailbox>, TransportError> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits::INBOXES_MAX {
            self.open.fetch_sub(1, Ordering::Relaxed);
            let limit = limits::INBOXES_MAX;
            return Err(TransportError::TooMany {
                transport: NAME,
                what: "inboxes",
                limit,
            });
        }
        // Every subject of an inbox that was made here has one.
        let token = token(subject).unwrap_or_default();
        let mailbox = Arc::new(Mailbox::new(token));
        self.shard(token).lock().insert(token, Arc::clone(&mailbox));
        Ok(mailbox)
    }

    pub(super) fn find(&self, subject: &Subject) -> Option<Arc<Mailbox>> {
        let token = token(subject)?;
        self.shard(token).lock().get(&token).map(Arc::clone)
    }

    /// Tells the caller behind an inbox, if it is still there, that its request was given up.
    pub(super) fn lose(&self, subject: &Subject) {
        if let Some(mailbox) = self.find(subject) {
            mailbox.lose();
        }
    }

    pub(super) fn close(&self, mailbox: &Mailbox) {
        let token = mailbox.token;
        if self.shard(token).lock().remove(&token).is_some() {
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

    /// Inboxes spread evenly over the locks because their tokens are random.
    fn shard(&self, token: u128) -> &Mutex<Shard> {
        &self.shards[(token % SHARDS as u128) as usize]
    }
}
