//! The connection while it lives: what both transports share.
//!
//! Whoever waits for something from the server is woken by it directly. What arrives for those
//! who are busy stays in the client library's channels until the caretaker takes it over: one task
//! for each connection, which sleeps for good while everybody waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agentbus_transport::{
    Completion, Drained, QueueStats, TransportError, TransportStats, limits as common,
};
use async_nats::Client;
use async_nats::client::traits::Publisher;
use async_nats::message::OutboundMessage;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address::Address;
use crate::connect::connect;
use crate::dialect::Dialect;
use crate::events::Events;
use crate::inbox::SharedInbox;
use crate::limits;

/// A receiver that a close has to wait for.
pub(crate) trait Drain: Send + Sync {
    /// Takes over what has arrived while nobody waits for it. Says whether to look again.
    fn look(&self) -> bool;
    /// Takes no new messages.
    fn stop(self: Arc<Self>);
    /// Whether everything is handed out.
    fn is_drained(&self) -> bool;
    /// Gives up what is left and returns how much it was.
    fn end(&self) -> usize;
    /// What an operator can see of it.
    fn stats(&self) -> QueueStats;
}

/// What the transport, its receivers and its tasks share.
pub(crate) struct Link {
    name: &'static str,
    dialect: Dialect,
    client: Client,
    inbox: Arc<SharedInbox>,
    events: Arc<Events>,
    receivers: Mutex<HashMap<u64, Weak<dyn Drain>>>,
    numbers: AtomicU64,
    published: AtomicU64,
    /// Set when publishes are not taken any more.
    closed: AtomicBool,
    /// Signals that a receiver has handed out all it had.
    drained: Notify,
    care: Arc<Care>,
    /// Ends the tasks.
    over: CancellationToken,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

impl Link {
    /// Connects and waits until the shared inbox is known to the server.
    pub(crate) async fn open(address: &Address) -> Result<Arc<Self>, TransportError> {
        let events = Arc::new(Events::default());
        let client = connect(address, &events).await?;
        let link = Arc::new(Self {
            name: address.scheme.name(),
            dialect: address.dialect.clone(),
            client,
            inbox: Arc::new(SharedInbox::new()),
            events,
            receivers: Mutex::default(),
            numbers: AtomicU64::new(0),
            published: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            drained: Notify::new(),
            care: Arc::default(),
            over: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        let pattern = link.inbox.pattern();
        let replies = link.client.subscribe(pattern.clone()).await;
        link.inbox
            .listen(replies.map_err(|error| link.failed(error))?);
        let (inbox, over) = (Arc::clone(&link.inbox), link.over.clone());
        link.spawn(hear(Arc::downgrade(&link), inbox, over.clone()));
        link.spawn(care(Arc::downgrade(&link), Arc::clone(&link.care), over));
        link.ready(&pattern).await?;
        Ok(link)
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) const fn inbox(&self) -> &Arc<SharedInbox> {
        &self.inbox
    }

    pub(crate) const fn over(&self) -> &CancellationToken {
        &self.over
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn count_publish(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, reason: impl std::fmt::Display) -> TransportError {
        TransportError::Carrier {
            transport: self.name,
            reason: reason.to_string(),
        }
    }

    /// Starts a task that a close waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Hands a message to the connection; waits only while too many others are ahead of it.
    pub(crate) async fn send(&self, message: OutboundMessage) -> Result<(), TransportError> {
        let sent = self.client.publish_message(message).await;
        sent.map_err(|error| self.failed(error))
    }

    /// Hands a message to the connection in this very call if there is room, so that whoever does
    /// not wait for the outcome has sent it all the same.
    pub(crate) fn send_now(
        self: &Arc<Self>,
        message: OutboundMessage,
    ) -> Completion<Result<(), TransportError>> {
        let link = Arc::clone(self);
        let mut sending = Box::pin(async move { link.send(message).await });
        let nobody = &mut Context::from_waker(Waker::noop());
        match sending.as_mut().poll(nobody) {
            Poll::Ready(sent) => Completion::ready(sent),
            Poll::Pending => Completion::Waiting(sending),
        }
    }

    /// Sends a message for which nobody waits, in this very call if there is room, so that a close
    /// that comes next finds it sent.
    pub(crate) fn send_soon(self: &Arc<Self>, message: OutboundMessage) {
        let link = Arc::clone(self);
        let mut sending = Box::pin(async move {
            if let Err(error) = link.send(message).await {
                tracing::debug!(%error, "a notice could not be sent");
            }
        });
        let now = sending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if now.is_pending() {
            self.spawn(sending);
        }
    }

    /// Waits until the server has seen all that was sent before on this connection: a message to
    /// ourselves comes back.
    pub(crate) async fn echo(&self, within: Duration) -> Result<(), TransportError> {
        let mut question = self.inbox.ask();
        let echo = OutboundMessage {
            subject: question.subject(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: None,
        };
        let round = async {
            self.send(echo).await?;
            match question.answer().await {
                Some(_) => Ok(()),
                None => Err(TransportError::Closed),
            }
        };
        match tokio::time::timeout(within, round).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.failed(format!("the server did not answer within {within:?}"))),
        }
    }

    /// Waits until a subscription is known to the server, over reconnects, or is refused.
    ///
    /// A client library's own flush is no such barrier: it ends when the bytes are with the
    /// operating system.
    pub(crate) async fn ready(&self, pattern: &str) -> Result<(), TransportError> {
        let until = Instant::now() + limits::READY_TIMEOUT;
        loop {
            let heard = self.echo(limits::CONFIRM_TIMEOUT).await;
            if let Some(reason) = self.events.refusal_of(pattern) {
                let transport = self.name;
                return Err(TransportError::Refused { transport, reason });
            }
            match heard {
                Err(TransportError::Carrier { .. }) if Instant::now() < until => {}
                outcome => return outcome,
            }
        }
    }

    /// How often the connection was made. What was sent and confirmed under one number travelled
    /// on one connection.
    pub(crate) fn epoch(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Acquire)
    }

    /// Takes over what arrived for those who are busy.
    fn look_after_all(&self) {
        let receivers = self.receivers();
        let busy = receivers.iter().filter(|receiver| receiver.look()).count();
        if busy > 0 {
            self.care.left.store(true, Ordering::Release);
        }
        self.inbox.look_after();
    }

    /// Asks the caretaker to look after a channel that nobody watches.
    pub(crate) fn leave_to_caretaker(&self) {
        if !self.care.left.swap(true, Ordering::AcqRel) {
            self.care.wake.notify_one();
        }
    }

    /// Enters a receiver, so that a close finds it. Returns its number.
    pub(crate) fn enter(&self, receiver: Weak<dyn Drain>) -> Result<u64, TransportError> {
        let mut receivers = self.receivers.lock();
        if receivers.len() >= common::SUBSCRIPTIONS_MAX {
            return Err(TransportError::TooMany {
                transport: self.name,
                what: "subscriptions",
                limit: common::SUBSCRIPTIONS_MAX,
            });
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        receivers.insert(number, receiver);
        Ok(number)
    }

    pub(crate) fn leave(&self, number: u64) {
        self.receivers.lock().remove(&number);
        self.drained.notify_waiters();
    }

    /// Says that a receiver may have handed out all it had.
    pub(crate) fn note_drained(&self) {
        self.drained.notify_waiters();
    }

    fn receivers(&self) -> Vec<Arc<dyn Drain>> {
        let receivers = self.receivers.lock();
        receivers.values().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn stats(&self) -> TransportStats {
        TransportStats {
            published: self.published.load(Ordering::Relaxed),
            inboxes: self.inbox.mailboxes().len(),
            queues: self
                .receivers()
                .iter()
                .map(|receiver| receiver.stats())
                .collect(),
        }
    }

    /// Takes no more publishes, lets receivers hand out what they have, and hangs up.
    pub(crate) async fn close(&self, drain: Duration) -> Drained {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Drained::default();
        }
        let deadline = agentbus_transport::clock::moment_in(drain);
        let receivers = self.receivers();
        receivers.iter().cloned().for_each(Drain::stop);
        let mailboxes = self.inbox.mailboxes();
        mailboxes.iter().for_each(|mailbox| mailbox.stop());
        loop {
            // Made before the look, so that an end in between is not missed.
            let drained = self.drained.notified();
            if receivers.iter().all(|receiver| receiver.is_drained())
                || timeout_at(deadline, drained).await.is_err()
            {
                break;
            }
        }
        let abandoned: usize = receivers.iter().map(|receiver| receiver.end()).sum();
        let unread: usize = mailboxes.iter().map(|mailbox| mailbox.len()).sum();
        self.hang_up(deadline).await;
        Drained {
            abandoned: abandoned + unread,
        }
    }

    /// Lets what was published reach the server, then ends the connection and all tasks.
    async fn hang_up(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let within = left.clamp(limits::LAST_WORDS, limits::CONFIRM_TIMEOUT);
        let _ = self.echo(within).await;
        // Without a connection there is nothing to drain, which is as good.
        let _ = self.client.drain().await;
        self.over.cancel();
        self.inbox.drop_questions();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.name)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Whoever forgot to close it leaves no connection behind either.
        self.over.cancel();
    }
}

/// Deals out what arrives in the shared inbox while no caller does so itself. Knows the link only
/// while somebody else does.
async fn hear(link: Weak<Link>, inbox: Arc<SharedInbox>, over: CancellationToken) {
    let hearing = std::future::poll_fn(|cx| {
        let (answers, has_ended) = inbox.hear(cx);
        if !answers.is_empty()
            && let Some(link) = link.upgrade()
        {
            answers
                .into_iter()
                .for_each(|answer| link.send_soon(answer));
        }
        if has_ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    tokio::select! {
        () = hearing => {}
        () = over.cancelled() => {}
    }
}

/// What the caretaker is told.
#[derive(Debug, Default)]
struct Care {
    /// Whether a channel was left to it since it last looked.
    left: AtomicBool,
    wake: Notify,
}

/// Looks after the channels of receivers that are busy. Knows the link only while it looks.
async fn care(link: Weak<Link>, care: Arc<Care>, over: CancellationToken) {
    loop {
        let left = async {
            if !care.left.load(Ordering::Acquire) {
                care.wake.notified().await;
            }
            tokio::time::sleep(limits::CARE_INTERVAL).await;
        };
        tokio::select! {
            () = left => {}
            () = over.cancelled() => return,
        }
        care.left.store(false, Ordering::Release);
        let Some(link) = link.upgrade() else { return };
        // A full channel is more than a task's fair share, and is taken over all the same.
        tokio::task::unconstrained(async { link.look_after_all() }).await;
    }
}
