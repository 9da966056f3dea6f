//! The connection while it lives: what the transport, its receivers and its tasks share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use agentbus_transport::clock::unix_millis;
use agentbus_transport::remote::{Drain, Leaving, Receivers};
use agentbus_transport::{Drained, Received, TransportError, TransportStats};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureRecord, Producer as _};
use rdkafka::util::Timeout;
use serde::Serialize;
use tokio::sync::{Mutex, Notify};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address::Address;
use crate::broker::{self, NAME, Producer, Topics, carrier, failed};
use crate::ear;
use crate::feeds::Feeds;
use crate::gate::Gate;
use crate::inbox::SharedInbox;
use crate::joining;
use crate::lanes::Lanes;
use crate::limits;
use crate::member::Member;
use crate::table::{Durable, Key, Table};

/// What everything of one transport shares.
pub(crate) struct Link {
    pub(crate) address: Address,
    pub(crate) topics: Topics,
    pub(crate) producer: Producer,
    pub(crate) inbox: SharedInbox,
    pub(crate) table: Table,
    /// Signals that a record of the table was read.
    pub(crate) table_moved: Notify,
    pub(crate) lanes: Lanes,
    pub(crate) feeds: Feeds,
    pub(crate) gate: Arc<Gate>,
    pub(crate) full: Full,
    pub(crate) leaving: Leaving,
    /// How far the broker's clock is ahead of ours, in milliseconds.
    ahead: AtomicI64,
    /// Durable subscriptions and replays that are open.
    durables: AtomicUsize,
    receivers: Receivers,
    members: parking_lot::Mutex<HashMap<u64, Weak<Member>>>,
    numbers: AtomicU64,
    published: AtomicU64,
    closed: AtomicBool,
    /// Ends what only waits: pauses and the heartbeat.
    pub(crate) ending: CancellationToken,
    /// Ends the reading.
    pub(crate) over: CancellationToken,
    /// What a close finishes before it hangs up: verdicts and farewells.
    lasting: TaskTracker,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

impl Link {
    /// Connects, and knows who listens when this returns.
    pub(crate) async fn open(address: Address) -> Result<Arc<Self>, TransportError> {
        let inbox = SharedInbox::new();
        let stranger = broker::reader(&address, &inbox.client)?;
        drop(broker::meet(&address, stranger).await?);
        let topics = Topics::new(&address.namespace);
        topics.create(&address).await?;
        let link = Arc::new(Self {
            producer: broker::producer(&address)?,
            lanes: Lanes::new(&topics, &address.amb),
            address,
            topics,
            inbox,
            table: Table::default(),
            table_moved: Notify::new(),
            feeds: Feeds::default(),
            gate: Arc::default(),
            full: Full::default(),
            leaving: Leaving::default(),
            ahead: AtomicI64::new(0),
            durables: AtomicUsize::new(0),
            receivers: Receivers::default(),
            members: parking_lot::Mutex::default(),
            numbers: AtomicU64::new(0),
            published: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            ending: CancellationToken::new(),
            over: CancellationToken::new(),
            lasting: TaskTracker::new(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        let reader = Arc::new(ear::open(&link).await?);
        link.gate.set_reader(&reader);
        link.spawn(ear::run(Arc::downgrade(&link), reader));
        let now = link.beat().await?;
        link.bury(link.table.stale(now));
        link.spawn(beat(Arc::downgrade(&link), link.ending.clone()));
        Ok(link)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn count_publish(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts a task that ends with the transport.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Starts a task that a close lets finish before it hangs up.
    pub(crate) fn spawn_lasting(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.lasting.spawn_on(task, &self.runtime);
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn member_id(&self, number: u64) -> String {
        format!("{}/{number}", self.inbox.client)
    }

    /// Enters a receiver, so that a close finds it.
    pub(crate) fn enter(
        &self,
        number: u64,
        receiver: Weak<dyn Drain>,
    ) -> Result<(), TransportError> {
        self.receivers.enter(NAME, number, receiver)
    }

    /// Enters a member, so that it is announced again when others took this client for gone.
    pub(crate) fn enter_member(&self, member: &Arc<Member>) {
        let weak = Arc::downgrade(member);
        self.members.lock().insert(member.number, weak);
    }

    pub(crate) fn leave(&self, number: u64) {
        self.members.lock().remove(&number);
        self.receivers.leave(number);
    }

    /// Says that a receiver may have handed out all it had.
    pub(crate) fn note_drained(&self) {
        self.receivers.note_drained();
    }

    /// Writes a record and returns its number and the broker's time.
    pub(crate) async fn write(
        &self,
        topic: &str,
        partition: i32,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(i64, i64), TransportError> {
        let mut record: FutureRecord<'_, str, [u8]> =
            FutureRecord::to(topic).partition(partition).key(key);
        record.payload = value;
        let patience = Timeout::After(limits::PUBLISH_TIMEOUT);
        let written = self.producer.send(record, patience).await;
        let written = written.map_err(|(error, _)| failed(&error))?;
        let time = written.timestamp.to_millis().unwrap_or_default();
        self.ahead.store(time - here(), Ordering::Relaxed);
        Ok((written.offset, time))
    }

    /// The time by the broker's clock, a moment late at the worst.
    pub(crate) fn broker_time(&self) -> i64 {
        here() + self.ahead.load(Ordering::Relaxed)
    }

    /// Takes a place among the durable subscriptions; it is given back when it is dropped.
    pub(crate) fn take_durable(self: &Arc<Self>) -> Result<DurablePlace, TransportError> {
        let place = DurablePlace(Arc::clone(self));
        if self.durables.fetch_add(1, Ordering::AcqRel) >= limits::DURABLES_MAX {
            return Err(TransportError::TooMany {
                transport: NAME,
                what: "durable subscriptions and replays",
                limit: limits::DURABLES_MAX,
            });
        }
        Ok(place)
    }

    /// Writes a record of the table and waits until it is read here.
    pub(crate) async fn announce(
        &self,
        key: Key<'_>,
        value: &impl Serialize,
    ) -> Result<(), TransportError> {
        // Names and patterns always have a JSON form.
        let value = serde_json::to_vec(value).unwrap_or_default();
        self.announce_raw(&key.text(), &value).await.map(drop)
    }

    async fn announce_raw(&self, key: &str, value: &[u8]) -> Result<i64, TransportError> {
        let members = &self.topics.members;
        let (at, time) = self.write(members, 0, key, Some(value)).await?;
        self.read_table(at + 1).await?;
        Ok(time)
    }

    /// Waits until the table is read up to a number.
    async fn read_table(&self, next: i64) -> Result<(), TransportError> {
        let read = async {
            loop {
                let moved = self.table_moved.notified();
                if self.table.position() >= next {
                    return;
                }
                moved.await;
            }
        };
        let read = timeout(limits::READY_TIMEOUT, read).await;
        read.map_err(|_| carrier("the broker does not give back what it took"))
    }

    /// Reads of everybody who had subscribed when this was called.
    pub(crate) async fn catch_up(&self) -> Result<(), TransportError> {
        let (producer, members) = (self.producer.clone(), self.topics.members.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let client = producer.client();
            client.fetch_watermarks(&members, 0, limits::RESPONSE_TIMEOUT)
        });
        let asked = asked.await.map_err(|_| TransportError::Closed)?;
        let (_, end) = asked.map_err(|error| failed(&error))?;
        self.read_table(end).await
    }

    /// Removes a record of the table, here at once.
    pub(crate) fn retract(self: &Arc<Self>, id: &str) {
        self.table.leave(id);
        self.remove(vec![Key::Member(id).text()]);
    }

    /// Removes records of the table.
    fn remove(self: &Arc<Self>, keys: Vec<String>) {
        let link = Arc::clone(self);
        self.spawn_lasting(async move {
            for key in keys {
                link.erase(&key).await;
            }
        });
    }

    /// Removes a record of the table. Returns whether the others learn of it.
    pub(crate) async fn erase(&self, key: &str) -> bool {
        let written = self.write(&self.topics.members, 0, key, None).await;
        if let Err(error) = &written {
            tracing::warn!(%error, key, "a record of who listens could not be removed");
        }
        written.is_ok()
    }

    /// Removes the record of a durable name and waits until that is read here.
    pub(crate) async fn forget(&self, name: &str) -> Result<(), TransportError> {
        let key = Key::Durable(name).text();
        let (at, _) = self.write(&self.topics.members, 0, &key, None).await?;
        self.read_table(at + 1).await
    }

    /// Shows that this client is alive. Returns the broker's time.
    async fn beat(&self) -> Result<i64, TransportError> {
        self.announce_raw(&Key::Client(&self.inbox.client).text(), b"{}")
            .await
    }

    /// Clears up after clients that are gone.
    fn bury(self: &Arc<Self>, clients: Vec<String>) {
        for client in clients {
            tracing::info!(client, "a client of the bus is gone");
            self.remove(self.table.bury(&client));
        }
    }

    /// Acts on a client's end. When it is our own, somebody took us for dead.
    pub(crate) fn note_left(self: &Arc<Self>, client: &str) {
        if client != self.inbox.client {
            self.table.bury(client);
            let unanswered = self.inbox.note_left(client);
            if !unanswered.is_empty() {
                let ending = self.ending.clone();
                self.spawn(async move {
                    tokio::select! {
                        () = ending.cancelled() => {}
                        () = tokio::time::sleep(limits::LAST_WORDS) => {}
                    }
                    unanswered.iter().for_each(|call| call.tell(Received::Lost));
                });
            }
        } else if !self.is_closed() {
            let link = Arc::clone(self);
            self.spawn(async move { link.join_again().await });
        }
    }

    async fn join_again(&self) {
        tracing::warn!("others took this client for gone, and it joins again");
        let beat = self.beat().await.map(drop);
        let members: Vec<_> = self
            .members
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        let mut announced = Ok(());
        for feed in self.feeds.all() {
            announced = announced.and(feed.announce().await);
        }
        for member in members {
            announced = announced.and(joining::announce(&member).await);
        }
        if let Err(error) = announced {
            tracing::warn!(%error, "a subscription could not be announced again");
        }
        if let Err(error) = beat {
            tracing::warn!(%error, "the broker did not take the heartbeat");
        }
    }

    /// Writes the record of a durable name again that somebody else was too late to decide.
    pub(crate) fn restore(self: &Arc<Self>, name: &str, first: &Durable) {
        let (link, key) = (Arc::clone(self), Key::Durable(name).text());
        let value = serde_json::to_vec(first).unwrap_or_default();
        self.spawn(async move {
            let written = link
                .write(&link.topics.members, 0, &key, Some(&value))
                .await;
            if let Err(error) = written {
                tracing::warn!(%error, key, "the record of a durable name could not be restored");
            }
        });
    }

    /// Hands a record to the library, which keeps the order in which it gets them.
    pub(crate) fn send(
        &self,
        topic: &str,
        partition: i32,
        key: &str,
        value: &[u8],
    ) -> KafkaResult<DeliveryFuture> {
        let record = FutureRecord::to(topic).partition(partition);
        let sent = self.producer.send_result(record.key(key).payload(value));
        sent.map_err(|(error, _)| error)
    }

    /// Says something to a client about a call, for which nobody waits.
    pub(crate) fn tell(&self, client: &str, partition: i32, data: &[u8]) {
        // The library sends it; a caller that does not hear it has its own timeout.
        if let Err(error) = self.send(&self.topics.replies, partition, client, data) {
            tracing::debug!(%error, "a notice could not be sent");
        }
    }

    pub(crate) fn stats(&self) -> TransportStats {
        TransportStats {
            published: self.published.load(Ordering::Relaxed),
            inboxes: self.inbox.len(),
            queues: self.receivers.stats(),
        }
    }

    /// Takes no more publishes, lets receivers hand out what they have, and hangs up.
    pub(crate) async fn close(self: &Arc<Self>, drain: Duration) -> Drained {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Drained::default();
        }
        let deadline = agentbus_transport::clock::moment_in(drain);
        let mailboxes = self.inbox.mailboxes();
        mailboxes.iter().for_each(|mailbox| mailbox.stop());
        let abandoned = self.receivers.drain(deadline).await;
        let unread: usize = mailboxes.iter().map(|mailbox| mailbox.unread()).sum();
        self.hang_up().await;
        Drained {
            abandoned: abandoned + unread,
        }
    }

    /// Lets what is under way reach the broker, says goodbye, and ends all tasks.
    async fn hang_up(self: &Arc<Self>) {
        self.ending.cancel();
        self.remove(self.table.bury(&self.inbox.client));
        self.lasting.close();
        // Without a broker there is nothing to finish, and silence says goodbye as well.
        let _ = timeout(limits::STOP_TIMEOUT, self.lasting.wait()).await;
        self.over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let producer = self.producer.clone();
        let flushed = tokio::task::spawn_blocking(move || producer.flush(limits::STOP_TIMEOUT));
        if let Ok(Err(error)) = flushed.await {
            tracing::debug!(%error, "what was under way did not reach the broker");
        }
    }
}

/// A place among the durable subscriptions.
pub(crate) struct DurablePlace(Arc<Link>);

impl Drop for DurablePlace {
    fn drop(&mut self) {
        self.0.durables.fetch_sub(1, Ordering::AcqRel);
    }
}

fn here() -> i64 {
    i64::try_from(unix_millis()).unwrap_or(i64::MAX)
}

/// Shows that the client is alive, and notices who is not, until the transport ends.
async fn beat(link: Weak<Link>, ending: CancellationToken) {
    let mut beats = interval(limits::HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first beat was the one with which the client came.
    beats.tick().await;
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            _ = beats.tick() => {}
        }
        let Some(link) = link.upgrade() else { return };
        let beat = tokio::select! {
            () = ending.cancelled() => return,
            beat = link.beat() => beat,
        };
        match beat {
            Ok(_) => link.bury(link.table.silent()),
            Err(error) => tracing::warn!(%error, "the broker did not take the heartbeat"),
        }
    }
}

/// Publishers that found the library's queue full. Others line up behind them, so that what one
/// publisher sends stays in order.
#[derive(Debug, Default)]
pub(crate) struct Full {
    waiting: Arc<AtomicUsize>,
    pub(crate) turn: Mutex<()>,
}

/// A place in the line; dropping it leaves the line.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Full {
    pub(crate) fn is_anyone_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    pub(crate) fn line_up(&self) -> Place {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Place(Arc::clone(&self.waiting))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the library's own queue is full.
pub(crate) fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(rdkafka::error::RDKafkaErrorCode::QueueFull)
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("client", &self.inbox.client)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Whoever forgot to close it leaves no reader behind either.
        self.ending.cancel();
        self.over.cancel();
    }
}
