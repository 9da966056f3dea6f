//! Figures of everything that passes over one transport from here.
//!
//! A bus with a meter ([`Builder::metered`](crate::Builder::metered)) counts by topic and times each
//! publish and each delivery; a bus without one does nothing of this.

mod histogram;
mod transport;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use agentbus_protocol::{Envelope, FrameKind, Timestamp};
use agentbus_transport::{Message, Priority, Receipt, TransportError};
use parking_lot::Mutex;

use crate::dead_letters::SETTLED;
use crate::limits;

pub(crate) use histogram::Histogram;
pub use histogram::{BOUNDS, Times};
pub(crate) use transport::Metered;

/// The topic that stands for all beyond the limit; no event type has a parenthesis.
const OTHERS: &str = "(others)";

/// Counts what passes over a transport.
#[derive(Debug, Default)]
pub struct Meter {
    topics: Mutex<HashMap<String, Topic>>,
    publishes: Histogram,
    deliveries: Histogram,
    dead_letters: AtomicU64,
    /// Whether the last publish could not reach the carrier.
    unreachable: AtomicBool,
}

/// The figures of one topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Topic {
    /// Messages that the carrier has taken, by [`Priority::lane`].
    pub published: [u64; Priority::ALL.len()],
    /// Messages handed to subscribers and handlers here.
    pub delivered: u64,
}

/// What a meter shows at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// By topic: the type of an event, `invoke.{target}` of a request. Sorted.
    pub topics: Vec<(String, Topic)>,
    /// How long the carrier took to take a message.
    pub publishes: Times,
    /// From the time that an envelope says it was made to its hand-over here. A message that is
    /// replayed after a day adds a day.
    pub deliveries: Times,
    /// Dead letters published from here.
    pub dead_letters: u64,
    /// Whether the carrier took, or could have taken, the last publish.
    pub connected: bool,
}

impl Meter {
    /// Reads all figures.
    #[must_use]
    pub fn read(&self) -> Reading {
        let topics = self.topics.lock();
        let mut topics: Vec<_> = topics
            .iter()
            .map(|(name, topic)| (name.clone(), *topic))
            .collect();
        topics.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Reading {
            topics,
            publishes: self.publishes.read(),
            deliveries: self.deliveries.read(),
            dead_letters: self.dead_letters.load(Ordering::Relaxed),
            connected: !self.unreachable.load(Ordering::Relaxed),
        }
    }

    fn published(
        &self,
        message: &Message,
        took: Duration,
        outcome: &Result<Receipt, TransportError>,
    ) {
        let lost = matches!(
            outcome,
            Err(TransportError::Carrier { .. } | TransportError::Closed)
        );
        self.unreachable.store(lost, Ordering::Relaxed);
        if outcome.is_err() {
            return;
        }
        self.publishes.add(took);
        if is_dead_letter(message) {
            self.dead_letters.fetch_add(1, Ordering::Relaxed);
        }
        let lane = message.priority.lane();
        self.on_topic(&message.envelope, |topic| topic.published[lane] += 1);
    }

    fn delivered(&self, envelope: &Envelope) {
        let now = Timestamp::from_system_time(SystemTime::now());
        let age = now.unix_nanos() - envelope.occurred_at.unix_nanos();
        // A sender whose clock is ahead did not send in the future.
        let age = u64::try_from(age.max(0)).unwrap_or(u64::MAX);
        self.deliveries.add(Duration::from_nanos(age));
        self.on_topic(envelope, |topic| topic.delivered += 1);
    }

    /// Changes the figures of an envelope's topic. Whoever publishes invents topics, so beyond a
    /// limit the rest share one.
    fn on_topic(&self, envelope: &Envelope, change: impl FnOnce(&mut Topic)) {
        let invoked;
        let name = match envelope.frame_type == FrameKind::Request.text() {
            true => {
                invoked = format!("invoke.{}", envelope.to);
                invoked.as_str()
            }
            false => envelope.event_type.as_str(),
        };
        let mut topics = self.topics.lock();
        let full = topics.len() >= limits::METER_TOPICS_MAX;
        // Looked up first, so that a topic that is known costs no allocation.
        match topics.get_mut(name) {
            Some(topic) => change(topic),
            None if full => change(topics.entry(OTHERS.to_owned()).or_default()),
            None => change(topics.entry(name.to_owned()).or_default()),
        }
    }
}

fn is_dead_letter(message: &Message) -> bool {
    let marks = message.envelope.event_type.as_str() == SETTLED;
    message.subject.as_str().contains(".dlq.") && !marks
}

#[cfg(test)]
mod tests;
