//! Which events are known to be kept.
//!
//! The broker confirms what no queue wanted just as it confirms what is on its disk, and tells no
//! publisher which queues there are. So a receipt claims the disk only for what a durable name gets
//! that was used over this transport. A name that only others use keeps its events as well, and no
//! receipt says so.

use agentbus_protocol::Pattern;
use parking_lot::RwLock;

use crate::limits;

/// The queues of the durable names that were used over this transport, with their patterns. They
/// outlive their members, so only a removal over this transport takes one out: after anybody else
/// has removed a queue of ours, receipts of this connection go on to claim it.
#[derive(Debug, Default)]
pub(crate) struct Kept(RwLock<Vec<(String, Pattern)>>);

impl Kept {
    /// Enters the queue of a durable name, which is there, and its pattern.
    pub(crate) fn enter(&self, queue: &str, pattern: &Pattern) {
        let mut queues = self.0.write();
        // Beyond the limit receipts claim less than is true, and never more.
        if queues.len() < limits::KEPT_PATTERNS && queues.iter().all(|(known, _)| known != queue) {
            queues.push((queue.to_owned(), pattern.clone()));
        }
    }

    /// Takes a queue out that is there no more.
    pub(crate) fn leave(&self, queue: &str) {
        self.0.write().retain(|(known, _)| known != queue);
    }

    /// Whether a durable name gets what is published here.
    pub(crate) fn wants(&self, subject: &str) -> bool {
        let queues = self.0.read();
        queues.iter().any(|(_, pattern)| pattern.matches(subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_pattern_wants_is_kept() {
        let kept = Kept::default();
        assert!(!kept.wants("acp.v1.events.order.paid"));
        for queue in ["one", "one", "two"] {
            kept.enter(queue, &Pattern::parse("acp.v1.events.order.*").unwrap());
        }
        assert!(kept.wants("acp.v1.events.order.paid"));
        assert!(!kept.wants("acp.v1.events.plan.made"));
        assert_eq!(kept.0.read().len(), 2);
        kept.leave("one");
        assert!(kept.wants("acp.v1.events.order.paid"));
        kept.leave("two");
        assert!(!kept.wants("acp.v1.events.order.paid"));
    }
}
