//! Private subjects for replies.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::iter::Sum;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use agentbus_protocol::Subject;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::mailbox::{Mailbox, Posted, Signals, Taken};
use super::{Broker, NAME};
use crate::{Delivery, Message, Received, Source, TransportError, limits};

/// Calls from several threads open inboxes at the same time; so many locks keep them apart.
const SHARDS: usize = 32;

/// Most inboxes behind one lock. Tokens are random, so that when one is full the others are, give
/// or take a few in a hundred.
const SHARD_MAX: usize = limits::INBOXES_MAX / SHARDS;

/// A table that has become empty keeps the room for this many inboxes, and gives back the rest.
const SHARD_KEPT: usize = 1024;

/// The mailboxes behind one lock.
#[derive(Debug, Default)]
struct Mailboxes {
    open: HashMap<Token, Mailbox, BuildHasherDefault<AsItIs>>,
    /// How many replies were put into them, and into those before them.
    replies: u64,
    /// No caller behind this lock is to be woken before this moment, which the alarm is set for.
    watched: Option<Instant>,
}

/// Alone on its cache lines, so that two locks do not slow one another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Mailboxes>);

/// The name of an inbox within this broker. Not one number of 128 bits: whatever holds one is
/// aligned to as many, and is slow to look into when it was written in words.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    high: u64,
    low: u64,
}

impl Token {
    pub(super) const fn from_number(number: u128) -> Self {
        Self {
            high: (number >> 64) as u64,
            low: number as u64,
        }
    }

    pub(super) const fn number(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// Spreads it over all bits. Letters and digits have few that differ; multiplied, these reach
    /// the upper half, which becomes the lower one, by which a map chooses.
    const fn mixed(self) -> u64 {
        let halves = self.high ^ self.low;
        halves.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32)
    }
}

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.mixed());
    }
}

/// Takes the token of an inbox for its hash: it is random, and nobody but us chooses one that
/// becomes a key.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write_u64(&mut self, mixed: u64) {
        self.0 = mixed;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The token in the subject of an inbox that was made here; `None` for any other.
pub(super) fn token(subject: &str) -> Option<Token> {
    let token = Subject::inbox_token(subject)?;
    Some(Token::from_number(u128::from_ne_bytes(token)))
}

impl Mailboxes {
    /// What the alarm has to be set for, now that a caller waits until then.
    fn watch(&mut self, due: Option<Instant>) -> Option<Instant> {
        let due = due?;
        if self.watched.is_some_and(|watched| watched <= due) {
            return None;
        }
        self.watched = Some(due);
        self.watched
    }

    /// Takes out the callers whose time is over by now. Also returns when the next one's is, and how
    /// many inboxes were looked at.
    fn overdue(&mut self, now: Instant) -> (Vec<Waker>, Option<Instant>, usize) {
        let mailboxes = self.open.values_mut();
        let overdue = mailboxes.filter_map(|mailbox| mailbox.overdue(now));
        let overdue = overdue.collect();
        self.watched = self.open.values().filter_map(Mailbox::due).min();
        (overdue, self.watched, self.open.len())
    }

    /// Takes out all callers that the alarm was set for.
    fn unwatched(&mut self) -> Vec<Waker> {
        self.watched = None;
        let mailboxes = self.open.values_mut();
        mailboxes.filter_map(Mailbox::unwatched).collect()
    }

    fn remove(&mut self, token: Token) -> Option<Mailbox> {
        let closed = self.open.remove(&token);
        if self.open.is_empty() && self.open.capacity() > SHARD_KEPT {
            self.open.shrink_to(SHARD_KEPT);
        }
        closed
    }
}

/// All open inboxes.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    shards: [Shard; SHARDS],
}

impl Inboxes {
    /// Opens the inbox of a new subject.
    pub(super) fn open(&self, subject: &Subject) -> Result<Token, TransportError> {
        // Every subject of an inbox that was made here has one.
        let token = token(subject.as_str()).unwrap_or_default();
        let mut mailboxes = self.shard(token).lock();
        if mailboxes.open.len() >= SHARD_MAX {
            let limit = limits::INBOXES_MAX;
            return Err(TransportError::TooMany {
                transport: NAME,
                what: "inboxes",
                limit,
            });
        }
        mailboxes.open.insert(token, Mailbox::default());
        Ok(token)
    }

    /// Puts a reply in, or says why not. Never waits.
    pub(super) fn post(&self, token: Token, reply: Arc<Message>) -> Posted {
        let mut mailboxes = self.shard(token).lock();
        let posted = match mailboxes.open.get_mut(&token) {
            Some(mailbox) => mailbox.post(reply),
            None => Err(Posted::Gone(reply)),
        };
        mailboxes.replies += u64::from(posted.is_ok());
        drop(mailboxes);
        match posted {
            Ok(receiver) => {
                super::wake(receiver);
                Posted::Taken
            }
            Err(refused) => refused,
        }
    }

    /// Puts a reply in, waiting for room as long as the call lasts.
    pub(super) async fn post_when_room(
        &self,
        token: Token,
        mut reply: Arc<Message>,
        mut room: Arc<tokio::sync::Notify>,
    ) -> Posted {
        loop {
            // Registered before the attempt, so that room made in between is not missed.
            let notify = Arc::clone(&room);
            let mut freed = std::pin::pin!(notify.notified());
            freed.as_mut().enable();
            (reply, room) = match self.post(token, reply) {
                Posted::Full(reply, room) => (reply, room),
                settled => return settled,
            };
            freed.await;
        }
    }

    /// Tells the caller behind an inbox, if it is still there, that its request was given up.
    pub(super) fn lose(&self, token: Token) {
        let mut mailboxes = self.shard(token).lock();
        let caller = mailboxes.open.get_mut(&token).and_then(Mailbox::lose);
        drop(mailboxes);
        super::wake(caller);
    }

    /// Gives out up to `max` replies. Returns how many, 0 when no more will come, and whether a
    /// stopped inbox has become empty with them.
    fn poll(
        &self,
        token: Token,
        cx: &Context<'_>,
        max: usize,
        give: impl FnMut(Received),
    ) -> Poll<(usize, bool)> {
        let mut mailboxes = self.shard(token).lock();
        let Some(mailbox) = mailboxes.open.get_mut(&token) else {
            return Poll::Ready((0, false));
        };
        let taken = mailbox.take(cx, None, max, give);
        drop(mailboxes);
        taken.settle()
    }

    /// Gives out the next reply to a call. The one that ends the call closes the inbox.
    fn poll_reply(&self, token: Token, cx: &Context<'_>, due: Option<Instant>) -> Reply {
        let mut mailboxes = self.shard(token).lock();
        let Some(mailbox) = mailboxes.open.get_mut(&token) else {
            return Reply::Other(None, false);
        };
        if let Some(last) = mailbox.take_last() {
            let closed = mailboxes.remove(token);
            drop(mailboxes);
            farewell(closed);
            return Reply::Last(last);
        }
        let mut next = None;
        let taken = mailbox.take(cx, due, 1, |reply| next = Some(reply));
        let unwatched = match taken {
            Taken::Waits(_) => mailboxes.watch(due),
            Taken::Some(..) => None,
        };
        drop(mailboxes);
        match taken.settle() {
            Poll::Ready((_, emptied)) => Reply::Other(next, emptied),
            Poll::Pending => Reply::Waits { unwatched },
        }
    }

    /// Wakes the callers whose time is over by now; returns when the next one's is.
    pub(super) async fn wake_due(&self, now: Instant) -> Option<Instant> {
        let mut next = None;
        for shard in &self.shards {
            let (overdue, watched, looked_at) = shard.0.lock().overdue(now);
            next = [next, watched].into_iter().flatten().min();
            overdue.into_iter().for_each(Waker::wake);
            if looked_at > SHARD_KEPT {
                tokio::task::yield_now().await;
            }
        }
        next
    }

    /// Wakes all callers who wait for some time only: nobody keeps it for them any more.
    pub(super) fn end_watch(&self) {
        for shard in &self.shards {
            let unwatched = shard.0.lock().unwatched();
            unwatched.into_iter().for_each(Waker::wake);
        }
    }

    fn stop(&self, token: Token) {
        let mut mailboxes = self.shard(token).lock();
        let signals = mailboxes.open.get_mut(&token).map(Mailbox::stop);
        drop(mailboxes);
        signals.unwrap_or_default().send();
    }

    /// Forgets an inbox whose caller has gone.
    fn close(&self, token: Token) {
        let closed = self.shard(token).lock().remove(token);
        farewell(closed);
    }

    /// Takes no replies from now on, but gives out what there is.
    pub(super) fn stop_all(&self) {
        self.each(Mailbox::stop).for_each(Signals::send);
    }

    /// Gives out nothing from now on. Returns how many replies were given up.
    pub(super) fn end_all(&self) -> usize {
        self.each(Mailbox::end)
            .map(|(abandoned, signals)| {
                signals.send();
                abandoned.len()
            })
            .sum()
    }

    /// Changes all inboxes, those behind one lock after those behind another.
    fn each<T>(&self, change: impl Fn(&mut Mailbox) -> T) -> impl Iterator<Item = T> {
        self.shards.iter().flat_map(move |shard| {
            let mut mailboxes = shard.0.lock();
            let changed: Vec<T> = mailboxes.open.values_mut().map(&change).collect();
            changed
        })
    }

    /// Whether no reply waits.
    pub(super) fn are_empty(&self) -> bool {
        let empty = |shard: &Shard| shard.0.lock().open.values().all(Mailbox::is_empty);
        self.shards.iter().all(empty)
    }

    pub(super) fn len(&self) -> usize {
        self.sum(|mailboxes| mailboxes.open.len())
    }

    /// How many replies were put into inboxes.
    pub(super) fn replies(&self) -> u64 {
        self.sum(|mailboxes| mailboxes.replies)
    }

    fn sum<T: Sum>(&self, of: impl Fn(&Mailboxes) -> T) -> T {
        self.shards.iter().map(|shard| of(&shard.0.lock())).sum()
    }

    /// Inboxes spread evenly over the locks because their tokens are random, once they are mixed.
    fn shard(&self, token: Token) -> &Mutex<Mailboxes> {
        // Bits by which the map behind the lock does not choose.
        &self.shards[(token.mixed() >> 48) as usize % SHARDS].0
    }
}

/// Ends a mailbox once the lock was given back, because what it holds is not ours alone.
fn farewell(closed: Option<Mailbox>) {
    closed
        .map_or_else(Signals::default, Mailbox::farewell)
        .send();
}

/// What a call got from its inbox.
enum Reply {
    /// The reply that ends it; the inbox is closed.
    Last(Arc<Message>),
    /// Nothing yet. The alarm has to be set, if that is a moment.
    Waits { unwatched: Option<Instant> },
    /// Anything else, `None` when no more will come, and whether a stopped inbox has become empty
    /// with it.
    Other(Option<Received>, bool),
}

/// The receiving end of an inbox. Dropping it closes the inbox.
#[derive(Debug)]
pub(crate) struct InboxSource {
    broker: Arc<Broker>,
    token: Token,
    /// Whether the inbox has gone with the reply that ended its call.
    over: bool,
}

impl InboxSource {
    pub(super) const fn new(broker: Arc<Broker>, token: Token) -> Self {
        Self {
            broker,
            token,
            over: false,
        }
    }

    /// Tells whoever waits for the last inbox, once this one has gone. Whoever closes the broker says
    /// so first and then looks under the lock that was just taken, so that one of the two sees the
    /// other.
    fn gone(&self) {
        if self.broker.is_closed() {
            self.broker.common.emptied.notify_waiters();
        }
    }

    fn poll(&self, cx: &Context<'_>, max: usize, give: impl FnMut(Received)) -> Poll<usize> {
        let common = &self.broker.common;
        let polled = common.inboxes.poll(self.token, cx, max, give);
        polled.map(|(count, emptied)| {
            if emptied {
                common.emptied.notify_waiters();
            }
            count
        })
    }
}

impl InboxSource {
    /// Takes the next reply to a call of one reply. A caller who waits is woken by then, if that is
    /// a moment; the caller looks at the clock.
    pub(crate) fn poll_reply(
        &mut self,
        cx: &Context<'_>,
        due: Option<Instant>,
    ) -> Poll<Option<Received>> {
        let common = &self.broker.common;
        Poll::Ready(match common.inboxes.poll_reply(self.token, cx, due) {
            Reply::Last(last) => {
                self.over = true;
                self.gone();
                Some(Received::Live(Delivery::new(last, 1)))
            }
            Reply::Other(next, emptied) => {
                if emptied {
                    common.emptied.notify_waiters();
                }
                next
            }
            Reply::Waits { unwatched } => {
                if let Some(due) = unwatched {
                    Alarm::set(common, due);
                }
                return Poll::Pending;
            }
        })
    }
}

impl Source for InboxSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        self.poll(cx, max.max(1), |reply| batch.push(reply))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        let mut next = None;
        let polled = self.poll(cx, 1, |reply| next = Some(reply));
        polled.map(|_| next)
    }

    fn stop(&mut self) {
        self.broker.common.inboxes.stop(self.token);
    }
}

impl Drop for InboxSource {
    fn drop(&mut self) {
        if !self.over {
            self.broker.common.inboxes.close(self.token);
            self.gone();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use agentbus_protocol::{Envelope, EventType};
    use rand::RngExt;

    use super::*;

    fn reply(event_type: EventType) -> Arc<Message> {
        let mut envelope = Envelope::BLANK;
        envelope.event_type = event_type;
        Arc::new(Message::new(Subject::UNSET, envelope))
    }

    #[test]
    fn a_call_closes_its_inbox_with_the_reply_that_ends_it() {
        let inboxes = Inboxes::default();
        let token = inboxes.open(&Subject::inbox([1, 2])).unwrap();
        let cx = Context::from_waker(Waker::noop());
        let poll = || inboxes.poll_reply(token, &cx, None);
        assert!(matches!(poll(), Reply::Waits { unwatched: None }));
        for event_type in [EventType::RESPONSE_DELTA, EventType::RESPONSE_FINAL] {
            let posted = inboxes.post(token, reply(event_type));
            assert!(matches!(posted, Posted::Taken));
        }
        assert!(matches!(poll(), Reply::Other(Some(_), false)));
        assert_eq!(inboxes.len(), 1);
        assert!(matches!(poll(), Reply::Last(_)));
        assert_eq!((inboxes.len(), inboxes.replies()), (0, 2));
        let posted = inboxes.post(token, reply(EventType::RESPONSE_FINAL));
        assert!(matches!(posted, Posted::Gone(_)));
        assert!(matches!(poll(), Reply::Other(None, false)));
    }

    #[test]
    fn inboxes_spread_evenly_over_the_locks() {
        let inboxes = Inboxes::default();
        let each = 400;
        for _ in 0..each * SHARDS {
            let subject = Subject::inbox(rand::rng().random());
            assert!(inboxes.open(&subject).is_ok());
        }
        assert_eq!(inboxes.len(), each * SHARDS);
        let of = |shard: &Shard| shard.0.lock().open.len();
        let (least, most) = (
            inboxes.shards.iter().map(of).min(),
            inboxes.shards.iter().map(of).max(),
        );
        // Eight standard deviations.
        assert!(
            least > Some(each - 160) && most < Some(each + 160),
            "{least:?} to {most:?}"
        );
    }
}
