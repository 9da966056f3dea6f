//! What one subscription has been given.
//!
//! A server that is killed forgets which deliveries it had made and which acknowledgements it had
//! heard, and makes them again as if for the first time. Whoever received them knows better: what
//! it has acknowledged is not handed out again, and what it has only received is numbered on.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::limits;

/// The latest messages of one subscription, by their number in the stream.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<BTreeMap<u64, Past>>);

/// What is known of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// Handed out, for the attempt of this number.
    Attempted(u32),
    Acknowledged,
}

/// What to do with a message that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Hand it out as the attempt of this number.
    Attempt(u32),
    /// It was acknowledged before; the server only has to hear it again.
    Repeated,
}

impl History {
    /// Notes an arrival, which the server takes for the attempt of this number.
    pub(super) fn arrive(&self, sequence: u64, attempt: u32) -> Arrival {
        let mut known = self.0.lock();
        let attempt = match known.get(&sequence) {
            None => attempt,
            Some(Past::Attempted(earlier)) => attempt.max(earlier.saturating_add(1)),
            Some(Past::Acknowledged) => return Arrival::Repeated,
        };
        known.insert(sequence, Past::Attempted(attempt));
        if known.len() > limits::REMEMBERED {
            known.pop_first();
        }
        Arrival::Attempt(attempt)
    }

    /// Notes that a message was acknowledged.
    pub(super) fn acknowledge(&self, sequence: u64) {
        if let Some(past) = self.0.lock().get_mut(&sequence) {
            *past = Past::Acknowledged;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, History};
    use crate::limits;

    #[test]
    fn a_server_that_forgot_is_corrected() {
        let history = History::default();
        assert_eq!(history.arrive(7, 1), Arrival::Attempt(1));
        assert_eq!(history.arrive(7, 1), Arrival::Attempt(2));
        assert_eq!(history.arrive(7, 5), Arrival::Attempt(5));
        history.acknowledge(7);
        assert_eq!(history.arrive(7, 1), Arrival::Repeated);
        assert_eq!(history.arrive(8, 3), Arrival::Attempt(3));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let history = History::default();
        for sequence in 0..=limits::REMEMBERED as u64 {
            history.arrive(sequence, 1);
        }
        assert_eq!(history.0.lock().len(), limits::REMEMBERED);
        assert_eq!(history.arrive(0, 1), Arrival::Attempt(1));
    }
}
