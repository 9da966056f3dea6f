//! The topics on which messages travel, and how far each was read and written.

use std::collections::HashMap;
use std::time::Duration;

use agentbus_protocol::Subject;
use agentbus_transport::Message;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::broker::Topics;

/// A topic of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// The log of events.
    Events,
    /// What somebody waits for now: requests and their cancellations.
    Calls,
    /// A topic that is shared with AMB peers, by its place in the URL.
    Amb(usize),
}

/// A partition of a lane.
pub(crate) type Place = (Lane, i32);

#[derive(Debug)]
pub(crate) struct Lanes {
    events: String,
    calls: String,
    amb: Vec<Subject>,
    marks: Mutex<Marks>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Marks {
    /// The number that will be read next, of each partition that is read.
    read: HashMap<Place, i64>,
    /// The number after the last that the brokers took from us.
    written: HashMap<Place, i64>,
}

impl Lanes {
    pub(crate) fn new(topics: &Topics, amb: &[Subject]) -> Self {
        Self {
            events: topics.events.clone(),
            calls: topics.calls.clone(),
            amb: amb.to_vec(),
            marks: Mutex::default(),
            moved: Notify::new(),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = Lane> + '_ {
        let own = [Lane::Events, Lane::Calls];
        own.into_iter().chain((0..self.amb.len()).map(Lane::Amb))
    }

    pub(crate) fn topic(&self, lane: Lane) -> &str {
        match lane {
            Lane::Events => &self.events,
            Lane::Calls => &self.calls,
            Lane::Amb(number) => self.amb[number].as_str(),
        }
    }

    /// The lane of a topic; `None` for one that carries no messages.
    pub(crate) fn lane(&self, topic: &str) -> Option<Lane> {
        self.all().find(|lane| self.topic(*lane) == topic)
    }

    /// The lane on which a message travels, unless it is a reply.
    pub(crate) fn lane_of(&self, message: &Message) -> Lane {
        let shared = self
            .amb
            .iter()
            .position(|subject| *subject == message.subject);
        match shared {
            Some(number) => Lane::Amb(number),
            None if is_call(message) => Lane::Calls,
            None => Lane::Events,
        }
    }

    pub(crate) fn note_read(&self, place: Place, next: i64) {
        self.marks.lock().read.insert(place, next);
        self.moved.notify_waiters();
    }

    /// What is read, and how far.
    pub(crate) fn reads(&self) -> HashMap<Place, i64> {
        self.marks.lock().read.clone()
    }

    /// Says that none of them is read any more.
    pub(crate) fn forget_reads(&self) {
        self.marks.lock().read.clear();
        self.moved.notify_waiters();
    }

    pub(crate) fn note_written(&self, place: Place, next: i64) {
        let mut marks = self.marks.lock();
        let written = marks.written.entry(place).or_default();
        *written = next.max(*written);
    }

    /// From where on a subscription that begins now listens: after everything that was read or
    /// written here. What is read has begun with what the brokers held by then.
    pub(crate) fn now(&self) -> HashMap<Place, i64> {
        let marks = self.marks.lock();
        let mut now = marks.written.clone();
        for (place, next) in &marks.read {
            let mark = now.entry(*place).or_default();
            *mark = next.max(mark).to_owned();
        }
        now
    }

    /// Waits until everything that was written here is read, as far as it is read at all; not for
    /// ever, because the broker may be gone.
    pub(crate) async fn catch_up(&self, patience: Duration) {
        let written = self.marks.lock().written.clone();
        let caught_up = async {
            loop {
                let moved = self.moved.notified();
                let read = self.reads();
                let is_behind = |place| read.get(place).is_some_and(|read| *read < written[place]);
                if !written.keys().any(is_behind) {
                    return;
                }
                moved.await;
            }
        };
        // What the broker still has after that is lost to those who merely listen.
        let _ = timeout(patience, caught_up).await;
    }
}

/// Whether somebody waits for an answer: a call is for now, and the log is for later.
fn is_call(message: &Message) -> bool {
    Subject::from_text(&message.envelope.reply_to).is_ok_and(|reply_to| reply_to.is_inbox())
}
