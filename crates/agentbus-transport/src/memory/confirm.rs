//! The tally of a confirmed publish.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentbus_protocol::Subject;
use tokio::sync::Notify;

use crate::TransportError;

/// Counts the verdicts of all receivers of one message.
#[derive(Debug)]
pub(super) struct Confirm {
    receivers: usize,
    open: AtomicUsize,
    failed: AtomicUsize,
    /// What became of the first that failed.
    reason: OnceLock<&'static str>,
    settled: Notify,
}

impl Confirm {
    pub(super) fn new(receivers: usize) -> Self {
        Self {
            receivers,
            open: AtomicUsize::new(receivers),
            failed: AtomicUsize::new(0),
            reason: OnceLock::new(),
            settled: Notify::new(),
        }
    }

    pub(super) fn acknowledged(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Stores a permit when the publisher is not waiting yet.
            self.settled.notify_one();
        }
    }

    pub(super) fn failed(&self, reason: &'static str) {
        self.failed.fetch_add(1, Ordering::AcqRel);
        self.reason.get_or_init(|| reason);
        self.acknowledged();
    }

    /// Waits until every receiver has decided.
    pub(super) async fn outcome(&self, subject: &Subject) -> Result<(), TransportError> {
        self.settled.notified().await;
        match self.failed.load(Ordering::Acquire) {
            0 => Ok(()),
            failed => Err(TransportError::Unconfirmed {
                subject: subject.clone(),
                receivers: self.receivers,
                failed,
                reason: self.reason.get().copied().unwrap_or("failed"),
            }),
        }
    }
}
