//! Cancellation, from a caller that gives up to the handler that works for it.
//!
//! A caller that drops its call, or runs into its timeout, publishes a cancel envelope whose
//! correlation id names the request, on `{prefix}[.{tenant}].cancel.{target}`. Every bus with
//! handlers listens there and drops the handler's future. Peers that do not know of
//! this subject simply go on working, as they always did.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use agentbus_protocol::limits::NAME_BYTES_MAX;
use agentbus_protocol::{Envelope, EventId, EventType, Subject, Text};
use agentbus_transport::{
    Message, Overflow, Priority, PublishOptions, Received, Subscribe, Subscription,
};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Bus, Error, limits, mint};

/// What a cancel envelope says happened.
const CANCELLED: &str = "agent.request.cancelled";

/// The requests of one bus that can be cancelled.
#[derive(Debug, Default)]
pub(crate) struct Cancellations {
    /// Several handlers may work on one message, so a key can have several tasks; their numbers
    /// tell them apart.
    running: Mutex<HashMap<Key, Vec<(u64, AbortHandle)>>>,
    numbers: AtomicU64,
    /// Locked only while `running` is, or alone; so a task that begins cannot miss its cancel.
    early: Mutex<Early>,
    /// Whether `early` holds anything, so that the usual case costs one load.
    has_early: AtomicBool,
    all_cancelled: AtomicBool,
    listening: OnceCell<()>,
    /// Who listens. No task of the bus's, because those may wait for a cancel to end.
    listener: TaskTracker,
    stop: CancellationToken,
}

/// Which request is meant. The id alone would not do: it is the caller's to choose, and a
/// forwarded request keeps it. The inbox is known to nobody but the caller and the handler.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    subject: Subject,
    id: EventId,
    reply_to: Text,
}

impl Key {
    fn of(request: &Message) -> Self {
        Self {
            subject: request.subject.clone(),
            id: request.envelope.event_id.clone(),
            reply_to: request.envelope.reply_to.clone(),
        }
    }

    /// The request that a cancel names.
    fn named_by(bus: &Bus, cancel: &Message) -> Option<Self> {
        let id = cancel.envelope.correlation_id.clone();
        let usable = id.with_str(|id| (1..=NAME_BYTES_MAX).contains(&id.len()));
        Some(Self {
            subject: bus.subjects().cancelled_by(&cancel.subject)?,
            id: usable.then_some(id)?,
            reply_to: cancel.envelope.reply_to.clone(),
        })
    }
}

/// Requests that were cancelled before they were started here.
#[derive(Debug, Default)]
struct Early {
    keys: HashSet<Key>,
    order: VecDeque<(Key, Instant)>,
}

impl Early {
    fn note(&mut self, key: Key) {
        self.forget_old();
        if self.keys.insert(key.clone()) {
            self.order.push_back((key, Instant::now()));
        }
    }

    fn forget_old(&mut self) {
        while let Some((key, since)) = self.order.front() {
            let full = self.order.len() >= limits::EARLY_CANCELS;
            if !full && since.elapsed() < limits::EARLY_CANCEL_TTL {
                return;
            }
            self.keys.remove(key);
            self.order.pop_front();
        }
    }
}

impl Cancellations {
    /// Begins to listen for cancellations, once per bus.
    pub(crate) async fn listen(bus: &Bus) -> Result<(), Error> {
        let listening = &bus.inner().cancellations.listening;
        listening
            .get_or_try_init(|| Self::start(bus))
            .await
            .copied()
    }

    async fn start(bus: &Bus) -> Result<(), Error> {
        // `cancel.>` with the space's own prefix and tenant: the target part is left open.
        let any = bus.subjects().cancel("any")?;
        let pattern = format!("{}.>", any.as_str().trim_end_matches(".any"));
        let mut request = Subscribe::new(agentbus_protocol::Pattern::parse(&pattern)?);
        // Callers must never wait for somebody to hear that they gave up.
        request.overflow = Overflow::DropOldest;
        let subscription = bus.transport().subscribe(request).await?;
        let listener = &bus.inner().cancellations.listener;
        listener.spawn(hear(bus.clone(), subscription));
        Ok(())
    }

    /// Spawns the rest of a handler so that a cancel finds it, and the end of the bus.
    pub(crate) fn spawn(
        bus: &Bus,
        request: &Message,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let this = &bus.inner().cancellations;
        let (number, key) = (
            this.numbers.fetch_add(1, Ordering::Relaxed),
            Key::of(request),
        );
        let done = Done {
            bus: bus.clone(),
            key: key.clone(),
            number,
        };
        // The lock is held until the handle is in the map; the task's own end takes it too, so it
        // cannot remove itself before it is there.
        let mut running = this.running.lock();
        let handle = bus.inner().tasks.spawn(async move {
            let _done = done;
            task.await;
        });
        // The cancel may have come while the handler was polled for the first time; and after the
        // bus has cancelled everything, nothing may begin.
        if this.came_early(request) || this.all_cancelled.load(Ordering::Acquire) {
            handle.abort();
        }
        running
            .entry(key)
            .or_default()
            .push((number, handle.abort_handle()));
        handle
    }

    fn cancel(&self, bus: &Bus, key: Key) {
        let mut running = self.running.lock();
        if let Some(tasks) = running.remove(&key) {
            drop(running);
            return tasks.iter().for_each(|(_, task)| task.abort());
        }
        // Other buses hear it too; only who serves the target will see the request.
        if bus.inner().targets.serves(bus, &key.subject) {
            self.early.lock().note(key);
            self.has_early.store(true, Ordering::Release);
        }
    }

    /// Whether a request was cancelled while it still waited in the queue.
    pub(crate) fn came_early(&self, request: &Message) -> bool {
        if !self.has_early.load(Ordering::Acquire) {
            return false;
        }
        let mut early = self.early.lock();
        early.forget_old();
        let found = early.keys.remove(&Key::of(request));
        self.has_early
            .store(!early.keys.is_empty(), Ordering::Release);
        found
    }

    /// Ends the listening, when nothing is left that could be cancelled.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.listener.close();
        self.listener.wait().await;
    }

    pub(crate) fn cancel_all(&self) {
        let mut running = self.running.lock();
        self.all_cancelled.store(true, Ordering::Release);
        for (_, task) in running.drain().flat_map(|(_, tasks)| tasks) {
            task.abort();
        }
    }
}

/// Removes a task from the map when it ends, in whichever way.
struct Done {
    bus: Bus,
    key: Key,
    number: u64,
}

impl Drop for Done {
    fn drop(&mut self) {
        let mut running = self.bus.inner().cancellations.running.lock();
        if let Some(tasks) = running.get_mut(&self.key) {
            tasks.retain(|(number, _)| *number != self.number);
            if tasks.is_empty() {
                running.remove(&self.key);
            }
        }
    }
}

async fn hear(bus: Bus, mut subscription: Subscription) {
    let cancellations = &bus.inner().cancellations;
    let mut stopped = std::pin::pin!(cancellations.stop.cancelled());
    loop {
        let received = tokio::select! {
            () = &mut stopped => return,
            received = subscription.receive() => received,
        };
        match received {
            Some(Received::Live(delivery)) => {
                if let Some(key) = Key::named_by(&bus, delivery.message()) {
                    cancellations.cancel(&bus, key);
                }
                // A cancel needs no confirmation, so the outcome of the ack does not matter.
                let _ = delivery.ack().await;
            }
            Some(_) => {}
            None => return,
        }
    }
}

/// Tells the handler to stop unless the call came to its end.
#[derive(Debug)]
pub(crate) struct CancelOnDrop {
    armed: Option<(Bus, Arc<Message>)>,
}

impl CancelOnDrop {
    pub(crate) fn new(bus: &Bus, request: &Arc<Message>) -> Self {
        Self {
            armed: Some((bus.clone(), Arc::clone(request))),
        }
    }

    pub(crate) fn disarm(&mut self) {
        self.armed = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some((bus, request)) = self.armed.take() {
            send(&bus, &request);
        }
    }
}

/// Tells the handlers of a request that its caller has left.
pub(crate) fn send(bus: &Bus, request: &Message) {
    // What is no request of this bus's grammar has no handler that could be told.
    let Some(subject) = bus.subjects().cancel_of(&request.subject) else {
        return;
    };
    let request = &request.envelope;
    let mut cancel = Envelope::new(mint::stamp(), EventType::new(CANCELLED));
    cancel.from = bus.agent_id_text().clone();
    cancel.to = request.to.clone();
    cancel.context = request.context.clone();
    cancel.correlation_id = request.event_id.clone();
    cancel.reply_to = request.reply_to.clone();
    let mut message = Message::new(subject, cancel);
    message.priority = Priority::Critical;
    let sent = bus
        .transport()
        .publish(Arc::new(message), PublishOptions::default());
    if matches!(sent, agentbus_transport::Completion::Waiting(_))
        && tokio::runtime::Handle::try_current().is_ok()
    {
        bus.inner().tasks.spawn(async move { drop(sent.await) });
    }
}
