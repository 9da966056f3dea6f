//! Whether the lanes are read: only while somebody here listens.
//!
//! A client that merely publishes would otherwise fetch whatever it and all others write, only to
//! throw it away. Replies and the table are read always.
//!
//! Whoever listens counts itself first and looks afterwards, and the lanes are shut only where
//! nobody is counted, under the same lock. So lanes that a listener has found open stay open for
//! as long as it listens.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, OnceLock, Weak};

use agentbus_transport::TransportError;
use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::broker::{self, carrier, failed};
use crate::lanes::{Lanes, Place};
use crate::limits;
use crate::link::Link;
use crate::reader::Reader;

/// Where each partition of the lanes ends.
type Ends = HashMap<Place, i64>;

#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Held by the one that opens.
    turn: tokio::sync::Mutex<()>,
    /// Signals the reader's task that something may be due.
    changed: Notify,
    reader: OnceLock<Weak<Reader>>,
}

#[derive(Debug, Default)]
struct State {
    reading: Reading,
    listeners: usize,
    owed: Owed,
}

/// How the lanes stand with the reader.
#[derive(Debug, Default)]
enum Reading {
    /// It has none. → `Asked` when somebody begins to listen.
    #[default]
    Shut,
    /// It shall take them up. → `Open` when it has; → `Shut` when it could not.
    Asked(Opening),
    /// It reads them. → `Shut` when nobody listens and nothing is owed.
    Open,
}

#[derive(Debug)]
struct Opening {
    ends: Ends,
    done: oneshot::Sender<Result<(), TransportError>>,
}

/// How long the lanes are read for members of groups that have left: others may have dealt to
/// them, and whoever waits for an answer is told that none will come.
#[derive(Debug, Default, Clone, Copy)]
enum Owed {
    #[default]
    Nothing,
    Until(Instant),
    /// Others were not told that a member has left, and go on dealing to it.
    Always,
}

impl Owed {
    fn is_over(self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Until(end) => end <= Instant::now(),
            Self::Always => false,
        }
    }
}

impl State {
    fn is_due(&self) -> bool {
        match self.reading {
            Reading::Shut => false,
            Reading::Asked(_) => true,
            Reading::Open => self.listeners == 0 && self.owed.is_over(),
        }
    }

    /// When something is due by itself.
    fn due_at(&self) -> Option<Instant> {
        match (&self.reading, self.owed) {
            (Reading::Open, Owed::Until(end)) if self.listeners == 0 => Some(end),
            _ => None,
        }
    }
}

impl Gate {
    /// Says who reads. Its task owns it.
    pub(crate) fn set_reader(&self, reader: &Arc<Reader>) {
        let _ = self.reader.set(Arc::downgrade(reader));
    }

    /// Waits until there is something to do for the reader's task.
    pub(crate) async fn due(&self) {
        loop {
            let due_at = {
                let state = self.state.lock();
                if state.is_due() {
                    return;
                }
                state.due_at()
            };
            let by_itself = async {
                match due_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = by_itself => {}
            }
        }
    }

    /// Opens or shuts the lanes, if that is still due.
    pub(crate) fn turn(&self, lanes: &Lanes, reader: &Reader) {
        let mut state = self.state.lock();
        if !state.is_due() {
            return;
        }
        match mem::take(&mut state.reading) {
            Reading::Asked(opening) => {
                let opened = open(lanes, reader, &opening.ends);
                if opened.is_ok() {
                    state.reading = Reading::Open;
                }
                // One that waits no longer is not counted any more either.
                let _ = opening.done.send(opened.map_err(|error| failed(&error)));
            }
            Reading::Open => {
                if let Err(error) = shut(lanes, reader) {
                    tracing::warn!(%error, "what nobody listens to is read all the same");
                    state.reading = Reading::Open;
                    state.owed = Owed::Always;
                }
            }
            Reading::Shut => {}
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.state.lock().reading, Reading::Open)
    }

    fn ask(&self, opening: Opening) {
        let mut state = self.state.lock();
        if let Reading::Open = state.reading {
            // Somebody who has gone away since had asked for it as well.
            let _ = opening.done.send(Ok(()));
            return;
        }
        state.reading = Reading::Asked(opening);
        drop(state);
        self.changed.notify_one();
    }
}

fn list(lanes: &Lanes, ends: &Ends) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((lane, partition), end) in ends {
        list.add_partition_offset(lanes.topic(*lane), *partition, Offset::Offset(*end))?;
    }
    Ok(list)
}

fn open(lanes: &Lanes, reader: &Reader, ends: &Ends) -> KafkaResult<()> {
    reader.incremental_assign(&list(lanes, ends)?)?;
    for (place, end) in ends {
        lanes.note_read(*place, *end);
    }
    Ok(())
}

fn shut(lanes: &Lanes, reader: &Reader) -> KafkaResult<()> {
    reader.incremental_unassign(&list(lanes, &lanes.reads())?)?;
    lanes.forget_reads();
    Ok(())
}

/// Somebody listens; the lanes are read for as long as this lives.
pub(crate) struct Listening(Arc<Link>);

impl Listening {
    /// Begins; when this returns, whatever is published from now on is read.
    pub(crate) async fn begin(link: &Arc<Link>) -> Result<Self, TransportError> {
        link.gate.state.lock().listeners += 1;
        let listening = Self(Arc::clone(link));
        tokio::select! {
            () = link.ending.cancelled() => Err(TransportError::Closed),
            opened = listening.ensure_open() => opened.map(|()| listening),
        }
    }

    async fn ensure_open(&self) -> Result<(), TransportError> {
        let link = &self.0;
        if link.gate.is_open() {
            return Ok(());
        }
        // Who waits for another to open, and then has to do so itself, waits no longer than one alone.
        let opened = timeout(limits::READY_TIMEOUT, self.open()).await;
        opened.map_err(|_| carrier("the broker does not say where its topics end"))?
    }

    async fn open(&self) -> Result<(), TransportError> {
        let link = &self.0;
        let _turn = link.gate.turn.lock().await;
        if link.gate.is_open() {
            return Ok(());
        }
        let ends = ends(link).await?;
        let (done, opened) = oneshot::channel();
        link.gate.ask(Opening { ends, done });
        opened.await.map_err(|_| TransportError::Closed)?
    }

    /// A member has left. `told` says whether the others could be told; what they had dealt to it
    /// before may be on its way for as long as a publish is tried.
    pub(crate) fn note_left(&self, told: bool) {
        let owed = if told {
            Owed::Until(Instant::now() + limits::LAST_DEALT)
        } else {
            Owed::Always
        };
        let mut state = self.0.gate.state.lock();
        if !matches!(state.owed, Owed::Always) {
            state.owed = owed;
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.gate.state.lock().listeners -= 1;
        self.0.gate.changed.notify_one();
    }
}

/// Asks where the lanes end, by the reader itself: it has to know who leads a partition before it
/// can read it, and takes a second to ask by itself.
async fn ends(link: &Link) -> Result<Ends, TransportError> {
    let lanes: Vec<_> = link
        .lanes
        .all()
        .map(|lane| (lane, link.lanes.topic(lane).to_owned()))
        .collect();
    let ask = move |reader: &Arc<Reader>, patience| {
        let mut ends = Ends::new();
        for (lane, topic) in &lanes {
            // Topics that somebody else has made may have more partitions than one.
            for partition in 0..broker::partitions(reader, topic, patience)? {
                let (_, end) = reader.fetch_watermarks(topic, partition, patience)?;
                ends.insert((*lane, partition), end);
            }
        }
        Ok(ends)
    };
    let reader = link.gate.reader.get().and_then(Weak::upgrade);
    let reader = reader.ok_or(TransportError::Closed)?;
    let (_, ends) = broker::patiently(reader, ask).await?;
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn open(listeners: usize, owed: Owed) -> State {
        State {
            reading: Reading::Open,
            listeners,
            owed,
        }
    }

    #[test]
    fn lanes_are_shut_when_nobody_listens_and_nothing_is_owed() {
        let now = Instant::now();
        let later = Owed::Until(now + Duration::from_secs(60));
        assert!(open(0, Owed::Nothing).is_due());
        assert!(open(0, Owed::Until(now)).is_due());
        assert!(!open(0, later).is_due());
        assert!(open(0, later).due_at().is_some());
        assert!(!open(0, Owed::Always).is_due());
        assert!(open(0, Owed::Always).due_at().is_none());
        for owed in [Owed::Nothing, later, Owed::Always] {
            assert!(!open(1, owed).is_due());
            assert!(open(1, owed).due_at().is_none());
        }
        assert!(!State::default().is_due());
    }

    #[test]
    fn one_that_asks_for_open_lanes_is_answered_at_once() {
        let gate = Gate::default();
        let ask = || {
            let (done, opened) = oneshot::channel();
            let ends = Ends::new();
            gate.ask(Opening { ends, done });
            opened
        };
        let (mut first, mut second) = (ask(), ask());
        assert!(first.try_recv().is_err(), "another has asked since");
        assert!(second.try_recv().is_err(), "nobody has opened yet");
        gate.state.lock().reading = Reading::Open;
        assert!(matches!(ask().try_recv(), Ok(Ok(()))));
        assert!(gate.is_open());
    }
}
