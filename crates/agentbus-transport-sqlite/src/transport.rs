//! The transport contract over a log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use agentbus_protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus_protocol::{Subject, Text};
use agentbus_transport::{
    BoxFuture, Capabilities, Completion, Confirmation, Drained, Durability, DurableInfo, Inbox,
    Message, Ordering as MessageOrdering, PublishOptions, Receipt, Start, Subscribe, Subscription,
    Transport, TransportError, TransportStats, limits as transport_limits,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::consumer::{Consumer, Driver, Identity, policy};
use crate::cursors::Cursors;
use crate::ledger::Ledger;
use crate::options::{Options, unix_ms};
use crate::queue::{Append, Create, Op, Remove, Work, Written, answer};
use crate::record::Record;
use crate::source::LogSource;
use crate::store::Store;
use crate::{limits, open, reader};

pub(crate) const NAME: &str = "sqlite";

/// What a log gives.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    name: NAME,
    ordering: MessageOrdering::PerPublisher,
    durability: Durability::Disk,
    confirmation: Confirmation::Handled,
    ack: true,
    redelivery: true,
    exact_attempts: true,
    replay: true,
    durable: true,
    durable_removal: true,
    durable_listing: true,
    lease: true,
    dead_letters: true,
    idempotency: true,
    queue_groups: true,
    shared_queues: true,
    mixed_groups: true,
    wildcards: true,
    priority: true,
    ttl: true,
    no_responder: true,
    backpressure: true,
    max_payload_bytes: Some(ENVELOPE_BYTES_MAX),
};

type Outcome = Result<Receipt, TransportError>;

/// A bus whose messages are in one file. Clones are handles to the same log; when the last one is
/// dropped without a [`close`](Transport::close), what was accepted is still written.
#[derive(Debug, Clone)]
pub struct SqliteTransport(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    store: Arc<Store>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let consumers = self.store.consumers.list();
        consumers.iter().for_each(|consumer| consumer.end());
        self.store.over.cancel();
        self.store.queue.close();
    }
}

impl SqliteTransport {
    /// What a log can do.
    pub const CAPABILITIES: Capabilities = CAPABILITIES;

    /// Opens the log of a URL; see [`Options::from_url`].
    ///
    /// # Errors
    /// See [`SqliteTransport::open`].
    pub async fn connect(url: &str) -> Result<Self, TransportError> {
        Self::open(Options::from_url(url)?).await
    }

    /// Opens a log, and makes it if it is not there.
    ///
    /// # Errors
    /// Fails when another process has it open, when it cannot be written, when it is damaged, or
    /// when it is the file of another program or of a newer AgentBus.
    pub async fn open(options: Options) -> Result<Self, TransportError> {
        let (store, writer) = open::open(options).await?;
        let writer = Mutex::new(Some(writer));
        Ok(Self(Arc::new(Handle { store, writer })))
    }

    /// The durable subscriptions there are, attached or not, in the order of their names.
    #[must_use]
    pub fn durables(&self) -> Vec<DurableInfo> {
        let store = &self.0.store;
        let all = store.consumers.list();
        let last = *store.committed.borrow();
        let infos = all.iter().filter_map(|consumer| info(consumer, last));
        let mut infos: Vec<_> = infos.collect();
        infos.sort_by(|one, other| one.name.cmp(&other.name));
        infos
    }

    /// Forgets a durable subscription and what it has not settled.
    ///
    /// # Errors
    /// Fails when there is none of this name, when it is in use, and when the log cannot be
    /// written.
    pub async fn remove_durable(&self, name: &str) -> Result<(), TransportError> {
        self.forget(name).await
    }

    /// Finished even if whoever asked has left: half of it would be a name that is served and has no
    /// row, and whose number is given to the next.
    async fn forget(&self, name: &str) -> Result<(), TransportError> {
        let (this, name) = (self.clone(), name.to_owned());
        let forgetting = async move { this.forget_now(&name).await };
        let forgetting = self.0.store.tasks.spawn(forgetting).await;
        forgetting.unwrap_or(Err(TransportError::Closed))
    }

    async fn forget_now(&self, name: &str) -> Result<(), TransportError> {
        let store = &self.0.store;
        let _naming = store.naming.lock().await;
        let wrong = |reason: &str| TransportError::Durable {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let consumer = store.consumers.find(name);
        let consumer = consumer.ok_or_else(|| wrong("does not exist"))?;
        if consumer.lock().ledger.members() > 0 {
            return Err(wrong("is in use; end its subscriptions first"));
        }
        let (done, removed) = oneshot::channel();
        let remove = Remove {
            consumer: consumer.row(),
            done,
        };
        self.push(Op::Remove(remove))?;
        answer(removed).await?;
        consumer.end();
        store.consumers.remove(&consumer);
        Ok(())
    }

    fn push(&self, op: Op) -> Result<(), TransportError> {
        self.0.store.queue.push(op)
    }

    fn is_closed(&self) -> bool {
        self.0.store.closed.load(Ordering::Acquire)
    }

    /// How many subscriptions a message would reach now.
    fn receivers(&self, subject: &Subject) -> usize {
        let store = &self.0.store;
        store.live.receivers(subject) + store.consumers.matching(subject)
    }

    /// Publishes to the log. When this returns, the message has its place in the order of this
    /// publisher; the completion is for the disk.
    fn append(&self, message: Arc<Message>, options: PublishOptions) -> Completion<Outcome> {
        let store = Arc::clone(&self.0.store);
        let record = match Record::new(message, &store.clock) {
            Ok(record) => record,
            Err(error) => return Completion::ready(Err(error)),
        };
        let kib = room_of(&record);
        match Arc::clone(&store.room).try_acquire_many_owned(kib) {
            Ok(room) => {
                let stored = enqueue(&store, record, options, Some(room));
                Completion::waiting(stored)
            }
            // Full, or others wait already.
            Err(_) => Completion::waiting(async move {
                let room = Arc::clone(&store.room).acquire_many_owned(kib).await;
                let room = room.map_err(|_| TransportError::Closed)?;
                enqueue(&store, record, options, Some(room)).await
            }),
        }
    }

    async fn subscribe_to_log(&self, request: Subscribe) -> Result<Subscription, TransportError> {
        let store = &self.0.store;
        let Some(name) = request.durable.clone() else {
            let consumer = self.reader(&request).await?;
            return Ok(LogSource::join(store, consumer, &request));
        };
        check_name(&name)?;
        let _naming = store.naming.lock().await;
        let consumer = match store.consumers.find(&name) {
            Some(consumer) => consumer,
            None => self.create(&request, name.clone()).await?,
        };
        check_use(&consumer, &name, &request)?;
        Ok(LogSource::join(store, consumer, &request))
    }

    /// A subscription to the log that nobody remembers.
    async fn reader(&self, request: &Subscribe) -> Result<Arc<Consumer>, TransportError> {
        if let Some(group) = &request.group {
            return Err(TransportError::Durable {
                name: group.to_string(),
                reason: "is a group only; members that share a replay or a lease need a durable name too".to_owned(),
            });
        }
        let cursors = match self.cursors(request.start).await? {
            Some(cursors) => cursors,
            None => Cursors::at(*self.0.store.committed.borrow()),
        };
        let identity = Identity {
            durable: None,
            group: None,
            pattern: request.pattern.clone(),
        };
        self.drive(identity, Ledger::new(policy(Some(request), false), cursors))
    }

    async fn create(
        &self,
        request: &Subscribe,
        name: Text,
    ) -> Result<Arc<Consumer>, TransportError> {
        let _coming = self.0.store.consumers.coming();
        let (done, created) = oneshot::channel();
        let create = Create {
            name: name.clone(),
            group: request.group.clone(),
            pattern: request.pattern.clone(),
            cursors: self.cursors(request.start).await?,
            done,
        };
        self.push(Op::Create(create))?;
        let (row, cursors) = answer(created).await?;
        let identity = Identity {
            durable: Some((row, name)),
            group: request.group.clone(),
            pattern: request.pattern.clone(),
        };
        self.drive(identity, Ledger::new(policy(Some(request), true), cursors))
    }

    /// Enters a subscription and starts its task.
    fn drive(
        &self,
        identity: Identity,
        ledger: Ledger<Arc<Message>>,
    ) -> Result<Arc<Consumer>, TransportError> {
        let store = &self.0.store;
        let consumer = Consumer::new(identity, ledger, store.over.child_token());
        let consumer = Arc::new(consumer);
        store.consumers.add(Arc::clone(&consumer))?;
        let driver = Driver::new(Arc::clone(&consumer), Arc::clone(store));
        store.tasks.spawn(driver.run());
        Ok(consumer)
    }

    /// Where a subscription begins; `None` behind the newest message.
    async fn cursors(&self, start: Start) -> Result<Option<Cursors>, TransportError> {
        let seq = match start {
            Start::New => return Ok(None),
            Start::Beginning => 0,
            Start::Sequence(first) => first.saturating_sub(1),
            Start::Time(time) => {
                let at_ms = unix_ms(time);
                let query = move |connection: &_| reader::before_time(connection, at_ms);
                self.0.store.readers.read(query).await?
            }
        };
        // A number that is not there yet would keep the log from ever being tidied behind it.
        let last = *self.0.store.committed.borrow();
        Ok(Some(Cursors::at(seq.min(last))))
    }

    async fn shut(&self, drain: Duration) -> Drained {
        let store = &self.0.store;
        store.closed.store(true, Ordering::Release);
        let deadline = agentbus_transport::clock::moment_in(drain);
        let consumers = store.consumers.list();
        consumers.iter().for_each(|consumer| consumer.close());
        store.tasks.close();
        let (drained, ()) = tokio::join!(
            store.live.close(drain),
            settled(store, &consumers, deadline)
        );
        // The subscriptions' tasks have seen the end; what they claim after this is nothing.
        store.tasks.wait().await;
        consumers
            .iter()
            .for_each(|consumer| withdraw(store, consumer));
        consumers.iter().for_each(|consumer| consumer.end());
        store.over.cancel();
        store.room.close();
        store.queue.close();
        let writer = self.0.writer.lock().take();
        if let Some(writer) = writer {
            // The writer ends by itself once its queue is empty.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
        store.readers.close();
        drained
    }
}

/// Waits until no member has a delivery in its hands, at most until the deadline.
async fn settled(store: &Store, consumers: &[Arc<Consumer>], deadline: Instant) {
    loop {
        // Made before the look, so that a verdict in between is not missed.
        let settled = store.settled.notified();
        let handed = |consumer: &Arc<Consumer>| consumer.lock().ledger.handed() > 0;
        if !consumers.iter().any(handed) {
            return;
        }
        if tokio::time::timeout_at(deadline, settled).await.is_err() {
            return;
        }
    }
}

/// Takes back what was claimed and handed to nobody: its attempt has not begun.
fn withdraw(store: &Store, consumer: &Consumer) {
    let withdrawn = consumer.lock().ledger.withdraw();
    if consumer.is_durable() && !withdrawn.is_empty() {
        let work = Work {
            consumer: consumer.row(),
            attempts: withdrawn,
            ..Work::default()
        };
        // If it cannot be written, it counts as an attempt that began.
        drop(store.write(work));
    }
}

fn enqueue(
    store: &Arc<Store>,
    record: Record,
    options: PublishOptions,
    room: Option<OwnedSemaphorePermit>,
) -> impl Future<Output = Outcome> + Send + 'static {
    let (done, written) = oneshot::channel();
    let readers = store.consumers.matching(&record.message.subject);
    let append = Append {
        record,
        options,
        done,
        _room: room,
    };
    let pushed = store.queue.push(Op::Append(append));
    async move {
        pushed?;
        receipt(answer(written).await?, readers).await
    }
}

/// Waits for the subscriptions beside the log, and says what became of the message.
async fn receipt(written: Written, readers: usize) -> Outcome {
    let receivers = match written.live.await {
        Ok(live) => live.receivers.map(|live| live + readers),
        // Stored while the transport closes, or while its last plain subscription leaves.
        Err(TransportError::Closed | TransportError::NoResponder { .. }) => Some(readers),
        Err(error) => return Err(error),
    };
    let receipt = Receipt::logged(Durability::Disk, receivers, written.seq);
    Ok(if written.duplicate {
        receipt.repeated()
    } else {
        receipt
    })
}

/// What a message counts against the memory for waiting messages.
fn room_of(record: &Record) -> u32 {
    let kib = record.envelope.len() / 1024 + 1;
    u32::try_from(kib)
        .unwrap_or(u32::MAX)
        .min(limits::QUEUED_KIB_MAX)
}

/// Whether a message is for somebody who waits now: a reply, or a request for one. Nobody could
/// use it after a restart, so it is not stored.
fn is_transient(message: &Message) -> bool {
    let reply_to = &message.envelope.reply_to;
    message.subject.is_inbox()
        || Subject::from_text(reply_to).is_ok_and(|reply_to| reply_to.is_inbox())
}

fn check_name(name: &Text) -> Result<(), TransportError> {
    if (1..=transport_limits::DURABLE_NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let reason = format!(
        "needs a name of 1 to {} bytes",
        transport_limits::DURABLE_NAME_BYTES_MAX
    );
    Err(TransportError::Durable {
        name: name.to_string(),
        reason,
    })
}

/// Refuses a use of a durable name that would change what it is.
fn check_use(consumer: &Consumer, name: &str, request: &Subscribe) -> Result<(), TransportError> {
    let Identity { pattern, group, .. } = &consumer.identity;
    let reason = if *pattern != request.pattern {
        format!("listens on {pattern}; use that pattern, or another name")
    } else if *group != request.group {
        match group {
            Some(group) => format!("belongs to the group `{group}`; name it, or use another name"),
            None => "has no group; leave it out, or use another name".to_owned(),
        }
    } else if group.is_none() && consumer.lock().ledger.members() > 0 {
        "is in use; subscriptions that share one name need a group".to_owned()
    } else {
        return Ok(());
    };
    Err(TransportError::Durable {
        name: name.to_owned(),
        reason,
    })
}

fn info(consumer: &Consumer, last: u64) -> Option<DurableInfo> {
    let name = consumer.name()?.to_owned();
    let state = consumer.lock();
    let seen = state.ledger.cursors().lowest();
    Some(DurableInfo {
        name,
        group: consumer.identity.group.as_ref().map(ToString::to_string),
        pattern: consumer.identity.pattern.to_string(),
        members: Some(state.ledger.members()),
        unsettled: state.ledger.unsettled(),
        seen,
        behind: last.saturating_sub(seen),
    })
}

impl Transport for SqliteTransport {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn publish(&self, message: Arc<Message>, options: PublishOptions) -> Completion<Outcome> {
        if self.is_closed() {
            return Completion::ready(Err(TransportError::Closed));
        }
        let subject = &message.subject;
        if message.is_expired() {
            let subject = subject.clone();
            return Completion::ready(Err(TransportError::Expired { subject }));
        }
        self.0.store.published.fetch_add(1, Ordering::Relaxed);
        if is_transient(&message) {
            return self.0.store.live.publish(message, options);
        }
        if let Err(error) = check_key(&options) {
            return Completion::ready(Err(error));
        }
        let wanted = options.require_responder || options.confirm;
        if wanted && self.receivers(subject) == 0 {
            let subject = subject.clone();
            return Completion::ready(Err(TransportError::NoResponder { subject }));
        }
        self.append(message, options)
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>> {
        Box::pin(async move {
            if self.is_closed() {
                return Err(TransportError::Closed);
            }
            if request.is_kept() {
                return self.subscribe_to_log(request).await;
            }
            self.0.store.live.subscribe(request).await
        })
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        self.0.store.live.open_inbox()
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        Box::pin(self.shut(drain))
    }

    fn stats(&self) -> TransportStats {
        let store = &self.0.store;
        let last = *store.committed.borrow();
        let mut stats = store.live.stats();
        stats.published = store.published.load(Ordering::Relaxed);
        let consumers = store.consumers.list();
        stats
            .queues
            .extend(consumers.iter().map(|consumer| consumer.stats(last)));
        stats
    }

    fn remove_durable<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(self.forget(name))
    }

    fn durables(&self) -> BoxFuture<'_, Result<Vec<DurableInfo>, TransportError>> {
        let listed = match self.is_closed() {
            true => Err(TransportError::Closed),
            // The method of the same name of the transport itself.
            false => Ok(Self::durables(self)),
        };
        Box::pin(std::future::ready(listed))
    }
}

fn check_key(options: &PublishOptions) -> Result<(), TransportError> {
    let most = transport_limits::IDEMPOTENCY_KEY_BYTES_MAX;
    match &options.idempotency_key {
        Some(key) if !(1..=most).contains(&key.len()) => Err(TransportError::Address(format!(
            "an idempotency key has 1 to {most} bytes; this one has {}",
            key.len()
        ))),
        _ => Ok(()),
    }
}
