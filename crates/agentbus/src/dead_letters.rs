//! Dead letters, collected to be looked at and sent again.
//!
//! The layer [`DeadLetter`](crate::middleware::DeadLetter) publishes what could not be handled, a
//! durable subscription what used up its attempts or its time; [`DeadLetters`] keeps it, within
//! limits and in memory. A collection that resumes reads what the transport's log has kept.
//!
//! Nothing is ever taken out of a log. What was redriven or discarded is marked there, by an
//! envelope of the type [`SETTLED`] among the letters, for those who read it later.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::{poll_fn, ready};
use std::sync::Arc;

use agentbus_protocol::{Envelope, EventId, EventType, Pattern, Payload, Timestamp};
use agentbus_transport::{
    Delivery, Message, Overflow, PublishOptions, Received, Start, Subscribe, Subscription, Verdict,
};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use crate::handler::{HandlerService, Reply, Request, Served};
use crate::middleware::dead_letter::{
    self, ATTEMPTS, LAST_ERROR, ORIGINAL_EVENT_TYPE, ORIGINAL_SUBJECT, REASON,
};
use crate::{Bus, Error, limits};

/// The reason of a letter whose redrives have all failed.
const EXHAUSTED: &str = "max_retries";

/// The type of the envelope that says of a letter in a log that it is done with.
pub const SETTLED: &str = "agentbus.dead_letter.settled";

/// The transport whose log has one partition, which its readers filter: reading all of it for a few
/// letters would take longer than anybody waits.
const FILTERED_BY_READERS: &str = "kafka";

/// A collection of dead letters. It collects until it is dropped.
#[derive(Debug)]
pub struct DeadLetters {
    bus: Bus,
    kept: Arc<Mutex<Kept>>,
    collectors: Vec<AbortOnDropHandle<()>>,
}

/// A dead letter with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The letter: the envelope as it was, with the `acp.dlq.*` metadata.
    pub letter: Envelope,
    /// The type of the event or request that was not handled.
    pub event_type: String,
    /// Why it was given up, one word.
    pub reason: String,
    /// The last error.
    pub error: String,
    /// Attempts of its handler before it was given up.
    pub attempts: u32,
    /// Redrives that have failed.
    pub redrives: u32,
    /// When it came here.
    pub kept_at: Timestamp,
    /// Its number in the transport's log; `None` for one that is only here.
    pub sequence: Option<u64>,
    /// What it occupies, in bytes.
    weight: usize,
}

/// Which letters are meant; the default is all, at most 100 at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Only letters of this event type.
    pub event_type: Option<String>,
    /// Only letters with this reason.
    pub reason: Option<String>,
    /// How many of the newest to leave out.
    pub offset: usize,
    /// How many at most.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            event_type: None,
            reason: None,
            offset: 0,
            limit: 100,
        }
    }
}

/// What is kept, counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Letters that are kept.
    pub entries: usize,
    /// Letters that were forgotten because there was no room.
    pub evicted: u64,
    /// Letters by reason.
    pub by_reason: BTreeMap<String, usize>,
    /// Letters by event type.
    pub by_event_type: BTreeMap<String, usize>,
}

/// Why a letter was not sent again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// There is no such letter.
    #[error("there is no dead letter with this id; it may have been redriven or forgotten")]
    Unknown,
    /// It has failed as often as it may.
    #[error("the letter has failed {0} redrives, as many as it may; repair its handler or drop it")]
    Exhausted(u32),
    /// It failed again.
    #[error("the letter failed again: {0}")]
    Failed(#[source] Error),
}

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<EventId, Entry>,
    /// Oldest first.
    order: VecDeque<EventId>,
    /// What the letters occupy.
    bytes: usize,
    evicted: u64,
}

/// Which letters one subscription brings, so that none comes over two.
#[derive(Debug, Clone, Copy)]
enum Brings {
    All,
    /// What a log keeps.
    Logged,
    /// The requests: somebody waited for their answers, so that most logs do not keep them.
    Passing,
}

/// What the envelope of the type [`SETTLED`] says.
#[derive(Debug, Serialize, Deserialize)]
struct Settled {
    /// The letter.
    event_id: EventId,
    /// Its number in the log. One with the same id behind it has died again.
    sequence: u64,
}

impl DeadLetters {
    /// Begins to collect the dead letters of this bus's prefix.
    ///
    /// # Errors
    /// Fails when the bus is closed or the carrier refuses the subscription.
    pub async fn collect(bus: &Bus) -> Result<Self, Error> {
        let mut letters = Self::empty(bus);
        letters.listen(Start::New, Brings::All).await?;
        Ok(letters)
    }

    /// Begins to collect, with the letters of events that the transport's log still has and nobody
    /// has redriven or discarded. They come as they are read, after this returns. Without a log, and
    /// over Kafka, whose log is read as a whole or not at all, it is [`collect`](Self::collect).
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub async fn resume(bus: &Bus) -> Result<Self, Error> {
        let capabilities = bus.transport().capabilities();
        // A bus on the other side has a collection of its own, and perhaps such a log.
        let behind_a_bus = bus.transport().subjects().is_some();
        if !capabilities.replay || behind_a_bus || capabilities.name == FILTERED_BY_READERS {
            return Self::collect(bus).await;
        }
        let mut letters = Self::empty(bus);
        letters.listen(Start::New, Brings::Passing).await?;
        match letters.listen(Start::Beginning, Brings::Logged).await {
            Ok(()) => Ok(letters),
            Err(error) => {
                // A stream may well keep other subjects only.
                tracing::warn!(%error, "dead letters are collected from now on only");
                Self::collect(bus).await
            }
        }
    }

    fn empty(bus: &Bus) -> Self {
        Self {
            bus: bus.clone(),
            kept: Arc::default(),
            collectors: Vec::new(),
        }
    }

    async fn listen(&mut self, start: Start, brings: Brings) -> Result<(), Error> {
        self.bus.check_open()?;
        let pattern = format!("{}.dlq.>", self.bus.subjects().prefix());
        let mut request = Subscribe::new(Pattern::parse(&pattern)?);
        request.start = start;
        if start == Start::New {
            // A failing handler must not wait for the collection of its failures.
            request.overflow = Overflow::DropOldest;
        }
        let subscription = self.bus.transport().subscribe(request).await?;
        // None of the bus's own tasks, whose end it waits for when it closes: this one collects
        // what they bury until then, and ends with the transport.
        let collector = tokio::spawn(collect(subscription, Arc::clone(&self.kept), brings));
        self.collectors.push(AbortOnDropHandle::new(collector));
        Ok(())
    }

    /// One letter.
    #[must_use]
    pub fn get(&self, id: &EventId) -> Option<Entry> {
        self.kept.lock().by_id.get(id).cloned()
    }

    /// Letters, newest first.
    #[must_use]
    pub fn entries(&self, filter: &Filter) -> Vec<Entry> {
        let kept = self.kept.lock();
        let matching = kept.matching(filter).skip(filter.offset);
        matching.take(filter.limit).cloned().collect()
    }

    /// Forgets one letter and says whether it was there. A letter of a log comes back with the next
    /// collection that resumes; [`discard`](Self::discard) forgets it for good.
    #[allow(clippy::must_use_candidate, reason = "most callers only want it gone")]
    pub fn remove(&self, id: &EventId) -> bool {
        self.kept.lock().remove(id).is_some()
    }

    /// Forgets one letter for good, marking it in the log if it came from there, and says whether it
    /// was here.
    ///
    /// # Errors
    /// Fails when the mark could not be written; the letter is still here then.
    pub async fn discard(&self, id: &EventId) -> Result<bool, Error> {
        let Some(entry) = self.get(id) else {
            return Ok(false);
        };
        self.mark(&entry).await?;
        self.kept.lock().settle(id, entry.sequence);
        Ok(true)
    }

    /// Says in the log, if the letter is of one, that it is done with.
    async fn mark(&self, entry: &Entry) -> Result<(), Error> {
        let Some(sequence) = entry.sequence else {
            return Ok(());
        };
        let settled = Settled {
            event_id: id_of(entry),
            sequence,
        };
        let mut envelope = Envelope::new(crate::mint::stamp(), EventType::new(SETTLED));
        envelope.from = self.bus.agent_id_text().clone();
        envelope.payload = Payload::from_value(&settled)?;
        let message = Arc::new(Message::new(self.bus.subjects().dlq(SETTLED)?, envelope));
        let options = PublishOptions::default();
        self.bus.transport().publish(message, options).await?;
        Ok(())
    }

    /// Forgets all letters that match, whatever the filter's offset and limit, and returns how many.
    pub fn clear(&self, filter: &Filter) -> usize {
        let mut kept = self.kept.lock();
        let ids: Vec<_> = kept.matching(filter).map(id_of).collect();
        ids.iter().filter_map(|id| kept.remove(id)).count()
    }

    /// Sends a letter to where it was going and forgets it once it was handled there, as far as
    /// the transport can tell.
    ///
    /// # Errors
    /// Fails when there is no such letter, when it has failed too often, and when it fails again.
    pub async fn redrive(&self, id: &EventId) -> Result<(), RedriveError> {
        let entry = self.get(id).ok_or(RedriveError::Unknown)?;
        if entry.redrives >= limits::REDRIVES_MAX {
            return Err(RedriveError::Exhausted(limits::REDRIVES_MAX));
        }
        // Nobody has failed on what can be sent nowhere.
        let subject = dead_letter::destination(&self.bus, &entry.letter);
        let subject = subject.map_err(RedriveError::Failed)?;
        match dead_letter::redrive_confirmed(&self.bus, &entry.letter, subject).await {
            Ok(()) => {
                if let Err(error) = self.mark(&entry).await {
                    // It has been sent again all the same.
                    let event_id = id;
                    tracing::error!(%event_id, %error, "a redriven letter comes back with the next start");
                }
                self.kept.lock().settle(id, entry.sequence);
                Ok(())
            }
            Err(error) => {
                self.kept.lock().note_failure(entry, &error);
                Err(RedriveError::Failed(error))
            }
        }
    }

    /// The letters that match and may be redriven, the oldest first: of these the filter's offset
    /// leaves out the first ones.
    #[must_use]
    pub fn redrivable(&self, filter: &Filter) -> Vec<Entry> {
        let kept = self.kept.lock();
        let mut found: Vec<_> = kept.matching(filter).collect();
        found.reverse();
        let found = found
            .into_iter()
            .filter(|entry| entry.redrives < limits::REDRIVES_MAX);
        let page = found.skip(filter.offset).take(filter.limit);
        page.cloned().collect()
    }

    /// Sends the letters again that match and have not failed too often, the oldest first, and
    /// returns what became of each.
    pub async fn redrive_all(&self, filter: &Filter) -> Vec<(EventId, Result<(), RedriveError>)> {
        let mut outcomes = Vec::new();
        for entry in self.redrivable(filter) {
            let id = id_of(&entry);
            let outcome = self.redrive(&id).await;
            outcomes.push((id, outcome));
        }
        outcomes
    }

    /// What is kept, counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let kept = self.kept.lock();
        let mut stats = Stats {
            entries: kept.by_id.len(),
            evicted: kept.evicted,
            ..Stats::default()
        };
        for entry in kept.by_id.values() {
            *stats.by_reason.entry(entry.reason.clone()).or_default() += 1;
            *stats
                .by_event_type
                .entry(entry.event_type.clone())
                .or_default() += 1;
        }
        stats
    }
}

/// Lets the layers of a handler see that an event expired before its turn, as they see a failure
/// of the handler; one of them may bury it.
pub(crate) async fn tell_expired(served: Arc<Served>, delivery: Delivery) {
    let attempt = delivery.attempt();
    let (message, mut settlement) = delivery.into_parts();
    let expired = |_: Request| ready(Err::<Reply, _>(Error::Expired));
    let handler = HandlerService::new(tower::service_fn(expired));
    let mut layered = (served.bus.inner().layers)(handler);
    // A layer that takes nothing any more has said so where it could.
    if poll_fn(|cx| layered.poll_ready(cx)).await.is_ok() {
        layered.call(Request::late(message, served, attempt)).await;
    }
    // The carrier only has to know that nobody will act on it.
    let _ = settlement.settle(Verdict::Reject).await;
}

/// Buries an event that expired before a durable subscription took it.
pub(crate) async fn bury_expired(bus: Bus, delivery: Delivery) {
    let (message, attempt) = (delivery.message(), delivery.attempt());
    dead_letter::bury_message(&bus, message, attempt, &Error::Expired).await;
    let _ = delivery.reject().await;
}

async fn collect(mut subscription: Subscription, kept: Arc<Mutex<Kept>>, brings: Brings) {
    while let Some(received) = subscription.receive().await {
        if let Received::Live(delivery) = received {
            if brings.is_for(delivery.message()) {
                kept.lock().hear(delivery.envelope(), delivery.sequence());
            }
            // A letter is as good as handled once it is kept; nobody waits for more.
            let _ = delivery.ack().await;
        }
    }
}

fn id_of(entry: &Entry) -> EventId {
    entry.letter.event_id.clone()
}

/// A letter in a buffer of its own, and about how many bytes it occupies: its payload lies in that
/// buffer, everything else of it twice. As it came, it may hold a frame that is far larger.
fn alone(letter: Envelope) -> (Envelope, usize) {
    let written = Bytes::from(letter.encode());
    let bytes = written.len();
    let letter = Envelope::decode(&written, letter.occurred_at).unwrap_or(letter);
    let payload = letter.payload.as_ref();
    let payload = payload.map_or(0, |payload| payload.as_bytes().len());
    let rest = bytes.saturating_sub(payload);
    (letter, size_of::<Entry>() + bytes + rest)
}

impl Brings {
    fn is_for(self, message: &Message) -> bool {
        match self {
            Self::All => true,
            Self::Logged => message.asker().is_none(),
            Self::Passing => message.asker().is_some(),
        }
    }
}

impl Kept {
    /// Takes what came: a letter, or word that one is done with.
    fn hear(&mut self, envelope: &Envelope, sequence: Option<u64>) {
        let is_letter = envelope.metadata.raw(ORIGINAL_SUBJECT).is_some();
        if is_letter || envelope.event_type.as_str() != SETTLED {
            return self.add(envelope.clone(), sequence);
        }
        let settled = envelope.payload.as_ref().map(Payload::decode::<Settled>);
        if let Some(Ok(settled)) = settled {
            self.settle(&settled.event_id, Some(settled.sequence));
        }
    }

    /// Forgets a letter, unless it has died again behind this number.
    fn settle(&mut self, id: &EventId, upto: Option<u64>) {
        let died = self.by_id.get(id).and_then(|entry| entry.sequence);
        let again = matches!((died, upto), (Some(died), Some(upto)) if died > upto);
        if !again {
            self.remove(id);
        }
    }

    /// Keeps a letter; one with the same id is the same letter, which has died again.
    fn add(&mut self, letter: Envelope, sequence: Option<u64>) {
        let (letter, weight) = alone(letter);
        let id = letter.event_id.clone();
        let text = |key| letter.metadata.get::<String>(key);
        let redrives = self.remove(&id).map_or(0, |known| known.redrives);
        let exhausted = redrives >= limits::REDRIVES_MAX;
        let entry = Entry {
            event_type: text(ORIGINAL_EVENT_TYPE).unwrap_or_else(|| letter.event_type.to_string()),
            reason: match text(REASON) {
                _ if exhausted => EXHAUSTED.to_owned(),
                Some(reason) => reason,
                None => "unknown".to_owned(),
            },
            error: text(LAST_ERROR).unwrap_or_default(),
            attempts: letter.metadata.get(ATTEMPTS).unwrap_or(1),
            redrives,
            kept_at: crate::mint::stamp().occurred_at,
            sequence,
            weight,
            letter,
        };
        self.put(entry);
    }

    fn put(&mut self, entry: Entry) {
        while self.is_full(entry.weight)
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(oldest) = self.by_id.remove(&oldest) {
                self.bytes -= oldest.weight;
                self.evicted += 1;
            }
        }
        self.bytes += entry.weight;
        self.order.push_back(id_of(&entry));
        self.by_id.insert(id_of(&entry), entry);
    }

    /// Whether there is no room for a letter of this weight.
    fn is_full(&self, bytes: usize) -> bool {
        self.by_id.len() >= limits::DEAD_LETTERS_MAX
            || self.bytes + bytes > limits::DEAD_LETTERS_BYTES_MAX
    }

    fn remove(&mut self, id: &EventId) -> Option<Entry> {
        let removed = self.by_id.remove(id)?;
        self.bytes -= removed.weight;
        self.order.retain(|present| present != id);
        Some(removed)
    }

    /// Notes that a redrive failed. The letter may have come back in the meantime, or be gone.
    fn note_failure(&mut self, tried: Entry, error: &Error) {
        let id = id_of(&tried);
        let mut entry = self.remove(&id).unwrap_or(tried);
        entry.redrives += 1;
        entry.error = error.to_string();
        if entry.redrives >= limits::REDRIVES_MAX {
            EXHAUSTED.clone_into(&mut entry.reason);
        }
        self.put(entry);
    }

    fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Entry> {
        let wanted =
            |want: &Option<String>, is: &str| want.as_deref().is_none_or(|want| want == is);
        let newest_first = self.order.iter().rev().filter_map(|id| self.by_id.get(id));
        newest_first.filter(move |entry| {
            wanted(&filter.event_type, &entry.event_type) && wanted(&filter.reason, &entry.reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_letters_make_room_for_the_next() {
        let payload = Payload::text(&"x".repeat(4 * 1024 * 1024));
        let mut kept = Kept::default();
        for _ in 0..20 {
            let mut letter = Envelope::new(crate::mint::stamp(), EventType::new("large"));
            letter.payload = Some(payload.clone());
            kept.add(letter, None);
            assert!(kept.bytes <= limits::DEAD_LETTERS_BYTES_MAX);
        }
        assert_eq!((kept.by_id.len(), kept.evicted), (15, 5));
        for id in kept.order.clone() {
            kept.remove(&id);
        }
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn whatever_makes_a_letter_large_is_counted() {
        let mut kept = Kept::default();
        for _ in 0..40 {
            let mut letter = Envelope::new(crate::mint::stamp(), EventType::new("large"));
            letter.context.edit().session_id = "x".repeat(4 * 1024 * 1024).into();
            kept.add(letter, None);
        }
        assert!(kept.evicted > 30, "{}", kept.evicted);
        assert!(kept.bytes <= limits::DEAD_LETTERS_BYTES_MAX);
    }

    #[test]
    fn a_small_letter_does_not_keep_the_frame_in_which_it_came() {
        let mut letter = Envelope::new(crate::mint::stamp(), EventType::new("small"));
        letter.payload = Some(Payload::text("x"));
        let mut frame = letter.encode();
        frame.splice(
            1..1,
            format!("\"unknown\":\"{}\",", "x".repeat(1 << 20)).bytes(),
        );
        let frame = Bytes::from(frame);
        let read = Envelope::decode(&frame, letter.occurred_at).unwrap();
        let mut kept = Kept::default();
        kept.add(read, None);
        assert!(frame.is_unique());
    }

    #[test]
    fn a_letter_that_died_again_is_not_done_with() {
        let mut kept = Kept::default();
        let letter = Envelope::new(crate::mint::stamp(), EventType::new("order.paid"));
        let id = letter.event_id.clone();
        kept.add(letter.clone(), Some(1));
        kept.add(letter, Some(3));
        kept.settle(&id, Some(2));
        assert!(kept.by_id.contains_key(&id));
        kept.settle(&id, Some(3));
        assert!(!kept.by_id.contains_key(&id));
    }
}
