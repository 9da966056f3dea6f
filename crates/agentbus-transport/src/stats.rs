//! What an operator can see of a transport.

/// Figures of one transport, for people and for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransportStats {
    /// Messages whose publish was taken on.
    pub published: u64,
    /// Inboxes that are open: calls in flight.
    pub inboxes: usize,
    /// One entry for each subscription and each queue group.
    pub queues: Vec<QueueStats>,
}

/// Figures of the queue of one subscription or one queue group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStats {
    /// What it listens on.
    pub pattern: String,
    /// With whom it shares the work.
    pub group: Option<String>,
    /// Messages that wait.
    pub depth: usize,
    /// Messages that may wait.
    pub capacity: usize,
    /// Messages handed out.
    pub delivered: u64,
    /// Messages lost because the queue was full.
    pub dropped: u64,
    /// Messages whose deadline passed in the queue.
    pub expired: u64,
    /// Messages put back for another attempt.
    pub redelivered: u64,
    /// How often a publisher had to wait for room.
    pub stalled: u64,
}
