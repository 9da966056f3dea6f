//! All subscriptions that read the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentbus_protocol::{Subject, Text};
use agentbus_transport::TransportError;
use parking_lot::{Mutex, RwLock};

use crate::consumer::Consumer;
use crate::limits;
use crate::transport::NAME;

/// The list, with a memory of how many of them match which subject.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    all: Mutex<Vec<Arc<Consumer>>>,
    /// Filled and forgotten under the lock of the list, so that it is never older than the list.
    matching: RwLock<HashMap<Text, usize>>,
    /// Subscriptions that are being made: in the log already, and not in the list yet.
    coming: AtomicUsize,
}

/// Keeps the log from forgetting anything while a subscription is made.
#[derive(Debug)]
pub(crate) struct Coming<'a>(&'a Consumers);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Consumers {
    pub(crate) fn add(&self, consumer: Arc<Consumer>) -> Result<(), TransportError> {
        let mut all = self.all.lock();
        if all.len() >= limits::CONSUMERS_MAX {
            return Err(TransportError::TooMany {
                transport: NAME,
                what: "subscriptions to its log",
                limit: limits::CONSUMERS_MAX,
            });
        }
        all.push(consumer);
        self.matching.write().clear();
        Ok(())
    }

    pub(crate) fn remove(&self, consumer: &Arc<Consumer>) {
        let mut all = self.all.lock();
        all.retain(|present| !Arc::ptr_eq(present, consumer));
        self.matching.write().clear();
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Consumer>> {
        let all = self.all.lock();
        let named = |consumer: &&Arc<Consumer>| consumer.name() == Some(name);
        all.iter().find(named).cloned()
    }

    pub(crate) fn list(&self) -> Vec<Arc<Consumer>> {
        self.all.lock().clone()
    }

    /// How many of them get a message of this subject.
    pub(crate) fn matching(&self, subject: &Subject) -> usize {
        if let Some(count) = self.matching.read().get(subject.as_str()) {
            return *count;
        }
        let all = self.all.lock();
        let matches = |consumer: &&Arc<Consumer>| consumer.pattern().matches(subject.as_str());
        let count = all.iter().filter(matches).count();
        let mut matching = self.matching.write();
        if matching.len() >= limits::ROUTES_MAX {
            matching.clear();
        }
        matching.insert(subject.text().clone(), count);
        count
    }

    /// Announces a subscription.
    pub(crate) fn coming(&self) -> Coming<'_> {
        self.coming.fetch_add(1, Ordering::AcqRel);
        Coming(self)
    }

    /// The first message that a durable subscription still needs.
    pub(crate) fn needed(&self) -> u64 {
        if self.coming.load(Ordering::Acquire) > 0 {
            return 0;
        }
        let all = self.all.lock();
        let durable = all.iter().filter(|consumer| consumer.is_durable());
        let needed = durable.map(|consumer| consumer.needed());
        needed.min().unwrap_or(u64::MAX)
    }
}
