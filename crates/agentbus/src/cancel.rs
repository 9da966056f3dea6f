//! Cancellation, from a caller that gives up to the handler that works for it.
//!
//! A caller that drops its call, or runs into its timeout, publishes a cancel envelope whose
//! correlation id names the request, on `{prefix}[.{tenant}].cancel.{target}`. Every bus with
//! handlers listens there and drops the handler's future. Peers that do not know of
//! this subject simply go on working, as they always did.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agentbus_protocol::{Envelope, EventId, EventType};
use agentbus_transport::{
    Message, Overflow, Priority, PublishOptions, Received, Subscribe, Subscription,
};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Error, limits, mint};

/// What a cancel envelope says happened.
const CANCELLED: &str = "agent.request.cancelled";

/// The requests of one bus that can be cancelled.
#[derive(Debug, Default)]
pub(crate) struct Cancellations {
    /// By the id of the request or event. Several handlers may work on one event, so an id can
    /// have several tasks; their numbers tell them apart.
    running: Mutex<HashMap<EventId, Vec<(u64, AbortHandle)>>>,
    numbers: AtomicU64,
    early: Mutex<VecDeque<EventId>>,
    /// Whether `early` holds anything, so that the usual case costs one load.
    has_early: AtomicBool,
    listening: OnceCell<()>,
    stop: CancellationToken,
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
        bus.inner().tasks.spawn(hear(bus.clone(), subscription));
        Ok(())
    }

    /// Spawns the rest of a handler so that a cancel finds it.
    pub(crate) fn spawn(bus: &Bus, id: &EventId, task: impl Future<Output = ()> + Send + 'static) {
        let this = &bus.inner().cancellations;
        let number = this.numbers.fetch_add(1, Ordering::Relaxed);
        let done = Done {
            bus: bus.clone(),
            id: id.clone(),
            number,
        };
        // The lock is held until the handle is in the map; the task's own end takes it too, so it
        // cannot remove itself before it is there.
        let mut running = this.running.lock();
        let handle = bus.inner().tasks.spawn(async move {
            let _done = done;
            task.await;
        });
        let tasks = running.entry(id.clone()).or_default();
        tasks.push((number, handle.abort_handle()));
    }

    fn cancel(&self, id: &EventId) {
        if let Some(tasks) = self.running.lock().remove(id) {
            return tasks.iter().for_each(|(_, task)| task.abort());
        }
        let mut early = self.early.lock();
        if early.len() == limits::EARLY_CANCELS {
            early.pop_front();
        }
        early.push_back(id.clone());
        self.has_early.store(true, Ordering::Release);
    }

    /// Whether a request was cancelled while it still waited in the queue.
    pub(crate) fn came_early(&self, id: &EventId) -> bool {
        if !self.has_early.load(Ordering::Acquire) {
            return false;
        }
        let mut early = self.early.lock();
        let found = early.iter().position(|cancelled| cancelled == id);
        if let Some(position) = found {
            early.remove(position);
        }
        self.has_early.store(!early.is_empty(), Ordering::Release);
        found.is_some()
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    pub(crate) fn cancel_all(&self) {
        for (_, task) in self.running.lock().drain().flat_map(|(_, tasks)| tasks) {
            task.abort();
        }
    }
}

/// Removes a task from the map when it ends, in whichever way.
struct Done {
    bus: Bus,
    id: EventId,
    number: u64,
}

impl Drop for Done {
    fn drop(&mut self) {
        let mut running = self.bus.inner().cancellations.running.lock();
        if let Some(tasks) = running.get_mut(&self.id) {
            tasks.retain(|(number, _)| *number != self.number);
            if tasks.is_empty() {
                running.remove(&self.id);
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
                cancellations.cancel(&delivery.envelope().correlation_id);
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
            send(&bus, &request.envelope);
        }
    }
}

/// Tells the handlers of a request that its caller has left.
pub(crate) fn send(bus: &Bus, request: &Envelope) {
    let mut cancel = Envelope::new(mint::stamp(), EventType::new(CANCELLED));
    cancel.from = bus.agent_id_text().clone();
    cancel.to = request.to.clone();
    cancel.context = request.context.clone();
    cancel.correlation_id = request.event_id.clone();
    // The request's own subject was valid, so this one is.
    let Ok(subject) = bus.subject(&cancel, |space, _| space.cancel(&request.to)) else {
        return;
    };
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
