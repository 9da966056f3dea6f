//! Which events are known to be kept.
//!
//! The broker confirms what no queue wanted just as it confirms what is on its disk, and tells no
//! publisher which queues there are. So a receipt claims the disk only for what a durable name gets
//! that was used over this transport. A name that only others use keeps its events as well, and no
//! receipt says so.

use agentbus_protocol::Pattern;
use parking_lot::RwLock;

use crate::limits;

/// The patterns of the durable names that were used over this transport. Their queues outlive their
/// members, so nothing is taken out: after an operator has removed a queue of ours, receipts of this
/// connection go on to claim it.
#[derive(Debug, Default)]
pub(crate) struct Kept(RwLock<Vec<Pattern>>);

impl Kept {
    /// Enters the pattern of a durable name whose queue is there.
    pub(crate) fn enter(&self, pattern: &Pattern) {
        let mut patterns = self.0.write();
        // Beyond the limit receipts claim less than is true, and never more.
        if patterns.len() < limits::KEPT_PATTERNS && !patterns.contains(pattern) {
            patterns.push(pattern.clone());
        }
    }

    /// Whether a durable name gets what is published here.
    pub(crate) fn wants(&self, subject: &str) -> bool {
        let patterns = self.0.read();
        patterns.iter().any(|pattern| pattern.matches(subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_pattern_wants_is_kept() {
        let kept = Kept::default();
        assert!(!kept.wants("acp.v1.events.order.paid"));
        for _ in 0..2 {
            kept.enter(&Pattern::parse("acp.v1.events.order.*").unwrap());
        }
        assert!(kept.wants("acp.v1.events.order.paid"));
        assert!(!kept.wants("acp.v1.events.plan.made"));
        assert_eq!(kept.0.read().len(), 1);
    }
}
