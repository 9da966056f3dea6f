//! Names of those who have left.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The inboxes elsewhere whose reader is known to have left, the latest of them, for carriers that
/// cannot ask.
#[derive(Debug)]
pub struct Departed {
    limit: usize,
    known: Mutex<Known>,
    /// Whether there is any, so that the usual reply costs one load.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    names: HashSet<String>,
    order: VecDeque<String>,
}

impl Departed {
    /// Remembers at most so many; the oldest is forgotten.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            known: Mutex::default(),
            any: AtomicBool::new(false),
        }
    }

    /// Remembers one.
    pub fn note(&self, name: String) {
        let mut known = self.known.lock();
        let Known { names, order } = &mut *known;
        if order.len() >= self.limit
            && let Some(oldest) = order.pop_front()
        {
            names.remove(&oldest);
        }
        if names.insert(name.clone()) {
            order.push_back(name);
        }
        self.any.store(true, Ordering::Release);
    }

    /// Whether this one is known to have left.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.any.load(Ordering::Acquire) && self.known.lock().names.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let departed = Departed::new(2);
        assert!(!departed.contains("a"));
        for name in ["a", "b", "b", "c"] {
            departed.note(name.to_owned());
        }
        assert!(departed.contains("c"));
        assert!(!departed.contains("a"));
        assert!(departed.known.lock().order.len() <= 2);
    }
}
