//! Addresses that an agent sends a person to, by the name that editors have for each.
//!
//! Two agents may use the same name, and an editor may be with both: it is given one of ours.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::limits::VISITS_KEPT;
use crate::log::Key;

/// The visits of one process of an agent that it has not called completed.
#[derive(Debug, Default)]
pub(super) struct Visits(Mutex<VecDeque<Visit>>);

#[derive(Debug)]
struct Visit {
    /// The agent's name for it.
    asked: String,
    /// Ours.
    name: String,
    /// Where it was asked.
    key: Key,
}

impl Visits {
    /// Remembers a visit and returns its name for editors.
    pub(super) fn begin(&self, asked: &str, key: Key) -> String {
        let name = uuid::Uuid::new_v4().to_string();
        let mut visits = self.0.lock();
        // An agent that uses a name again means the later visit.
        visits.retain(|visit| visit.asked != asked);
        if visits.len() >= VISITS_KEPT {
            visits.pop_front();
        }
        visits.push_back(Visit {
            asked: asked.to_owned(),
            name: name.clone(),
            key,
        });
        name
    }

    /// Forgets a visit and returns where it was asked, and its name for editors.
    pub(super) fn end(&self, asked: &str) -> Option<(Key, String)> {
        let mut visits = self.0.lock();
        let at = visits.iter().position(|visit| visit.asked == asked)?;
        visits.remove(at).map(|visit| (visit.key, visit.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: &str) -> Key {
        Key {
            agent: "a".to_owned(),
            session: session.to_owned(),
        }
    }

    #[test]
    fn a_visit_ends_once_under_the_name_it_began_with() {
        let visits = Visits::default();
        visits.begin("login", key("first"));
        let name = visits.begin("login", key("second"));
        assert_eq!(visits.end("login"), Some((key("second"), name)));
        assert_eq!(visits.end("login"), None);
    }

    #[test]
    fn the_oldest_visit_makes_room() {
        let visits = Visits::default();
        for number in 0..=VISITS_KEPT {
            visits.begin(&number.to_string(), key("s"));
        }
        assert_eq!(visits.end("0"), None);
        assert!(visits.end("1").is_some());
    }
}
