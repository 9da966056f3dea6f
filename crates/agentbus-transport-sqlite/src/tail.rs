//! The newest messages in memory, for subscriptions that keep up.

use std::collections::VecDeque;
use std::sync::Arc;

use agentbus_protocol::Pattern;
use agentbus_transport::Message;
use parking_lot::Mutex;

use crate::cursors::{Cursors, LANES};
use crate::limits;
use crate::reader::Fetched;

/// A subscription whose position is in here is served without the disk.
#[derive(Debug, Default)]
pub(crate) struct Tail(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    seq: u64,
    bytes: usize,
    message: Arc<Message>,
}

impl Tail {
    /// Adds the message that follows the last one.
    pub(crate) fn push(&self, seq: u64, message: Arc<Message>, bytes: usize) {
        let mut kept = self.0.lock();
        kept.bytes += bytes;
        kept.messages.push_back(Entry {
            seq,
            bytes,
            message,
        });
        while kept.messages.len() > limits::TAIL_MAX || kept.bytes > limits::TAIL_BYTES_MAX {
            let Some(oldest) = kept.messages.pop_front() else {
                return;
            };
            kept.bytes -= oldest.bytes;
        }
    }

    /// Forgets what the log has forgotten.
    pub(crate) fn forget_before(&self, first: u64) {
        let mut kept = self.0.lock();
        while kept.messages.front().is_some_and(|it| it.seq < first) {
            let bytes = kept.messages.pop_front().map_or(0, |oldest| oldest.bytes);
            kept.bytes -= bytes;
        }
    }

    /// What a subscription gets next, up to `upto`; `None` when it is too far behind for us.
    pub(crate) fn fetch(
        &self,
        cursors: &Cursors,
        pattern: &Pattern,
        max: usize,
        upto: u64,
    ) -> Option<Fetched> {
        let from = cursors.lowest() + 1;
        let kept = self.0.lock();
        let first = kept.messages.front().map(|entry| entry.seq)?;
        if from < first {
            return None;
        }
        let skip = usize::try_from(from - first).unwrap_or(usize::MAX);
        let mut lanes: [Vec<(u64, Arc<Message>)>; LANES] = Default::default();
        for entry in kept.messages.iter().skip(skip) {
            let lane = entry.message.priority.lane();
            let wanted = entry.seq <= upto
                && entry.seq > cursors.of(lane)
                && pattern.matches(entry.message.subject.as_str());
            // One more than is wanted tells that there is more.
            if wanted && lanes[lane].len() <= max {
                lanes[lane].push((entry.seq, Arc::clone(&entry.message)));
            }
        }
        drop(kept);
        Some(Fetched::of_lanes(*cursors, lanes, max, upto))
    }
}
