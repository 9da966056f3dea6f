//! The task behind a member: reads events and steps, claims what the member has room for, and
//! commits how far the name has come.

use std::sync::Arc;

use agentbus_transport::remote::amb;
use bytes::Bytes;
use futures_util::FutureExt;
use rdkafka::Message as _;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::{Instant, sleep};

use crate::ledger::{Ledger, Step};
use crate::limits;
use crate::link::DurablePlace;
use crate::member::Member;
use crate::reader::Reader;

/// The partition with the steps of a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) partition: i32,
    /// The step that will be read next.
    pub(crate) next: i64,
    /// Steps below it were there when the member came; before they are read it knows too little to
    /// claim anything.
    pub(crate) known_until: i64,
    /// The life of the name; another begins when the name was removed.
    pub(crate) life: i64,
}

pub(crate) struct Keeper {
    member: Arc<Member>,
    reader: Reader,
    /// `None` for a replay, which agrees with nobody.
    work: Option<Work>,
    /// The event and the step that were committed last.
    committed: (i64, i64),
    commit_at: Instant,
    /// Whether the log waits until the ledger is smaller.
    paused: bool,
    _place: DurablePlace,
}

impl Keeper {
    pub(crate) fn new(
        member: Arc<Member>,
        reader: Reader,
        work: Option<Work>,
        place: DurablePlace,
    ) -> Self {
        Self {
            member,
            reader,
            work,
            committed: (-1, -1),
            commit_at: Instant::now() + limits::COMMIT_INTERVAL,
            paused: false,
            _place: place,
        }
    }

    pub(crate) async fn run(mut self) {
        let member = Arc::clone(&self.member);
        while !member.stopped.is_cancelled() && !self.is_removed() {
            self.claim();
            let pause = member.pause();
            tokio::select! {
                () = member.stopped.cancelled() => break,
                () = member.changed.notified() => {}
                () = sleep(pause) => {}
                () = self.read() => {}
            }
            if Instant::now() >= self.commit_at {
                self.commit_at = Instant::now() + limits::COMMIT_INTERVAL;
                self.clear_up();
                self.commit();
            }
        }
        if self.is_removed() {
            self.note_removed();
        }
        member.end_taking();
        member.dropped.cancelled().await;
        self.say_goodbye().await;
        self.reader.close().await;
        member.left.cancel();
    }

    /// Whether the name was removed, as it can be only while others take this client for gone. A
    /// commit would then make its group again, with a place that is nobody's.
    fn is_removed(&self) -> bool {
        let Some(work) = self.work else { return false };
        let member = &self.member;
        let name = member.plan.name.as_ref();
        name.is_some_and(|name| member.link.table.life(name) != Some(work.life))
    }

    /// Ends a subscription whose name is gone, and leaves the name to those who use it anew.
    fn note_removed(&self) {
        let member = &self.member;
        let name = member.plan.name.as_deref().unwrap_or_default();
        tracing::warn!(
            name,
            "the durable name was removed while others took this client for gone, and its subscription ends; subscribe again"
        );
        member.link.retract(&member.id);
    }

    /// Reads what is there, at least one record.
    async fn read(&mut self) {
        let mut next = Some(self.reader.recv().await);
        let mut left = limits::CLAIM_BATCH;
        while let Some(record) = next {
            match record {
                Ok(record) => take(&self.member, &mut self.work, &record),
                Err(error) => {
                    tracing::debug!(%error, "the Kafka client recovers");
                    return sleep(limits::RETRY_PAUSE).await;
                }
            }
            left -= 1;
            next = if left > 0 {
                self.reader.recv().now_or_never()
            } else {
                None
            };
        }
        self.hold_back();
    }

    /// Lets the log wait while the ledger is large.
    fn hold_back(&mut self) {
        let length = self.member.ledger(|ledger| {
            ledger.low();
            ledger.len()
        });
        let wanted = if self.paused {
            length > limits::LEDGER_WINDOW / 2
        } else {
            length >= limits::LEDGER_WINDOW
        };
        if wanted == self.paused {
            return;
        }
        let mut events = TopicPartitionList::new();
        events.add_partition(&self.member.link.topics.events, 0);
        let done = if wanted {
            self.reader.pause(&events)
        } else {
            self.reader.resume(&events)
        };
        match done {
            Ok(()) => self.paused = wanted,
            Err(error) => tracing::debug!(%error, "the log could not be held back"),
        }
    }

    /// Claims what there is room for.
    fn claim(&self) {
        let member = &self.member;
        if self.work.is_some_and(|work| work.next < work.known_until) {
            return;
        }
        let (rank, members) = match &member.plan.name {
            Some(name) if member.plan.group.is_some() => {
                let all = member.link.table.members_of(name);
                let rank = all.iter().position(|id| **id == *member.id);
                (rank.unwrap_or_default(), all.len())
            }
            _ => (0, 1),
        };
        if let Some(step) = member.choose(rank, members) {
            member.claim(step);
        }
    }

    /// Frees what clients had that are gone.
    fn clear_up(&self) {
        let (member, own) = (&self.member, &self.member.link.inbox.client);
        if member.plan.name.is_none() {
            return;
        }
        for client in member.ledger(|ledger| ledger.owners()) {
            if client == *own || member.link.table.last_heard(&client).is_some() {
                continue;
            }
            let step = Step::Leave {
                who: client,
                but: Vec::new(),
                untried: Vec::new(),
            };
            let member = Arc::clone(member);
            member.link.clone().spawn_lasting(async move {
                if let Err(error) = member.note(step).await {
                    tracing::warn!(%error, "what a client had that is gone could not be freed");
                }
            });
        }
    }

    /// Commits how far the name has come, unless that is known.
    fn commit(&mut self) {
        let Some(work) = self.work.filter(|_| !self.is_removed()) else {
            return;
        };
        let (low, since) = self.member.ledger(Ledger::low);
        // Before all steps are read, those that are settled already do not look like it.
        let reached = (low, since.unwrap_or(work.next));
        if work.next < work.known_until || reached == self.committed {
            return;
        }
        match self.try_commit(reached, work.partition) {
            Ok(()) => self.committed = reached,
            Err(error) => tracing::debug!(%error, "a commit is left to the next"),
        }
    }

    fn try_commit(&self, (event, step): (i64, i64), partition: i32) -> KafkaResult<()> {
        let topics = &self.member.link.topics;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topics.events, 0, Offset::Offset(event))?;
        offsets.add_partition_offset(&topics.work, partition, Offset::Offset(step))?;
        self.reader.commit(&offsets, CommitMode::Async)
    }

    /// Leaves the name to the others.
    async fn say_goodbye(&mut self) {
        let member = Arc::clone(&self.member);
        let farewell = member.farewell();
        if member.plan.name.is_some()
            && let Err(error) = member.note(farewell).await
        {
            tracing::warn!(%error, "what was taken ahead is free when this client is missed");
        }
        // Before others hear that the place is free, one of whom may remove the name. The broker may
        // be gone for good: whoever comes next reads a few steps again when this did not arrive.
        self.commit();
        member.link.retract(&member.id);
    }
}

/// Takes a record in.
fn take(member: &Arc<Member>, work: &mut Option<Work>, record: &BorrowedMessage<'_>) {
    let key = record.key().unwrap_or_default();
    if record.topic() == member.link.topics.events {
        let subject = std::str::from_utf8(key).unwrap_or_default();
        let message = member
            .plan
            .pattern
            .matches(subject)
            .then(|| read(record))
            .flatten();
        return member.add(record.offset(), message.map(Arc::new));
    }
    if let Some(work) = work {
        work.next = record.offset() + 1;
    }
    let is_ours = member
        .plan
        .name
        .as_ref()
        .is_some_and(|name| name.as_bytes() == key);
    let step = record.payload().filter(|_| is_ours).and_then(|step| {
        let read = serde_json::from_slice::<Step>(step);
        read.inspect_err(|error| tracing::warn!(%error, "a step of a ledger cannot be read"))
            .ok()
    });
    if let Some(step) = step {
        let time = record.timestamp().to_millis().unwrap_or_default();
        let dead = member.apply(record.offset(), time, step);
        dead.into_iter()
            .for_each(|(dead, cause)| member.bury(dead, cause));
    }
}

/// Reads an event; one that nobody can read is reported and settled, so that it stops nobody.
fn read(record: &BorrowedMessage<'_>) -> Option<agentbus_transport::Message> {
    let data = Bytes::copy_from_slice(record.payload().unwrap_or_default());
    match amb::decode(&data) {
        Ok(read) => Some(read.message),
        Err(error) => {
            let number = record.offset();
            tracing::warn!(%error, number, "an event cannot be read and is passed over");
            None
        }
    }
}
