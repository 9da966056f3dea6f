//! The live subscriptions of this client, looked up by subject.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use agentbus_transport::limits as common;
use foldhash::quality::RandomState;
use parking_lot::Mutex;

use crate::feed::Feed;

/// Who hears a subject.
type Heard = Arc<[Weak<Feed>]>;

#[derive(Debug, Default)]
pub(crate) struct Feeds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    all: HashMap<String, Weak<Feed>>,
    routes: HashMap<String, Heard, RandomState>,
}

impl Feeds {
    pub(crate) fn add(&self, feed: &Arc<Feed>) {
        let mut state = self.0.lock();
        state.all.insert(feed.id.clone(), Arc::downgrade(feed));
        state.routes.clear();
    }

    pub(crate) fn remove(&self, id: &str) {
        let mut state = self.0.lock();
        if state.all.remove(id).is_some() {
            state.routes.clear();
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Feed>> {
        self.0.lock().all.get(id).and_then(Weak::upgrade)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Feed>> {
        self.0
            .lock()
            .all
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Those whose pattern matches.
    pub(crate) fn of(&self, subject: &str) -> Heard {
        let mut state = self.0.lock();
        if let Some(heard) = state.routes.get(subject) {
            return Arc::clone(heard);
        }
        let matches = |feed: &&Weak<Feed>| {
            feed.upgrade()
                .is_some_and(|feed| feed.pattern.matches(subject))
        };
        let heard: Heard = state
            .all
            .values()
            .filter(matches)
            .map(Weak::clone)
            .collect();
        if state.routes.len() >= common::ROUTES_MAX {
            state.routes.clear();
        }
        state.routes.insert(subject.to_owned(), Arc::clone(&heard));
        heard
    }
}
