//! Serving targets and events: one worker task per handler.
//!
//! The worker takes messages in batches and starts each handler itself. A handler that is done at
//! its first poll costs no task; one that has to wait is moved to a task of its own, so that slow
//! requests run side by side up to the handler's concurrency. Beyond it the worker takes no more
//! from the queue, which then fills and slows its publishers.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use agentbus_protocol::{Envelope, Subject, Text};
use agentbus_transport::{
    BoxFuture, Delivery, Message, Overflow, PublishOptions, Received, Subscribe, Subscription,
    TransportError,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use crate::cancel::Cancellations;
use crate::handler::{HandlerService, Reply, Request};
use crate::middleware::Recover;
use crate::targets::{Registration, Target, TargetKind};
use crate::{Bus, Error, StreamWriter, current, limits, mint};

/// A handler about to be registered.
#[must_use = "nothing is served until this is awaited"]
pub struct Handle<'a> {
    bus: &'a Bus,
    name: Text,
    service: HandlerService,
    kind: TargetKind,
    group: Option<Text>,
    concurrency: usize,
    capacity: usize,
    overflow: Overflow,
}

impl<'a> Handle<'a> {
    pub(crate) fn new(bus: &'a Bus, name: Text, service: HandlerService) -> Self {
        Self {
            bus,
            group: Some(name.clone()),
            name,
            service,
            kind: TargetKind::Invoke,
            concurrency: limits::HANDLER_CONCURRENCY,
            capacity: agentbus_transport::limits::QUEUE_CAPACITY,
            overflow: Overflow::Wait,
        }
    }

    pub(crate) fn streaming(mut self) -> Self {
        self.kind = TargetKind::Stream;
        self
    }

    pub(crate) fn events(mut self) -> Self {
        self.kind = TargetKind::Events;
        self.group = None;
        self.concurrency = 1;
        self
    }

    /// Works on at most this many messages at a time; 1 keeps their order.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Shares the messages with the other members of this group. For targets the group is the
    /// target's name unless set.
    pub fn queue(mut self, group: impl Into<Text>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Gives every handler every message; of several replies the caller takes the first.
    pub fn fan_out(mut self) -> Self {
        self.group = None;
        self
    }

    /// Sets how many messages may wait in the queue.
    pub const fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets what happens when the queue is full.
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    async fn start(self) -> Result<Registration, Error> {
        self.bus.check_open()?;
        let inner = self.bus.inner();
        let target = inner
            .targets
            .add(Target::new(self.name, self.kind, self.group.clone()))?;
        let registered = async {
            Cancellations::listen(self.bus).await?;
            let request = subscribe_request(self.bus, &target, self.capacity, self.overflow)?;
            Ok(inner.transport.subscribe(request).await?)
        };
        let subscription = match registered.await {
            Ok(subscription) => subscription,
            Err(error) => {
                inner.targets.remove(&target);
                return Err(error);
            }
        };
        let worker = Worker {
            bus: self.bus.clone(),
            target: Arc::clone(&target),
            service: layered(inner, self.service),
            permits: Arc::new(Semaphore::new(self.concurrency)),
        };
        let stop = target.stop.clone();
        let task = inner.tasks.spawn(worker.run(subscription, stop));
        target.set_worker(task.abort_handle());
        Ok(Registration::new(self.bus.clone(), target))
    }
}

impl std::fmt::Debug for Handle<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<'a> IntoFuture for Handle<'a> {
    type Output = Result<Registration, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

fn subscribe_request(
    bus: &Bus,
    target: &Target,
    capacity: usize,
    overflow: Overflow,
) -> Result<Subscribe, Error> {
    let pattern = match target.kind {
        TargetKind::Events => bus.subjects().events_pattern(&target.name)?,
        TargetKind::Invoke | TargetKind::Stream => (&bus.subjects().invoke(&target.name)?).into(),
    };
    let mut request = Subscribe::new(pattern);
    request.group.clone_from(&target.group);
    request.capacity = capacity;
    request.overflow = overflow;
    Ok(request)
}

/// Wraps a handler in the bus's layers, the first one outermost, and all in a [`Recover`].
fn layered(inner: &crate::bus::Inner, handler: HandlerService) -> HandlerService {
    let wrapped = inner
        .layers
        .iter()
        .rev()
        .fold(handler, |service, layer| layer(service));
    HandlerService::new(tower::Layer::layer(&Recover, wrapped))
}

struct Worker {
    bus: Bus,
    target: Arc<Target>,
    service: HandlerService,
    permits: Arc<Semaphore>,
}

impl Worker {
    async fn run(mut self, mut subscription: Subscription, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(limits::RECEIVE_BATCH);
        let mut stopped = pin!(stop.cancelled());
        let mut stopping = false;
        loop {
            let max = self
                .permits
                .available_permits()
                .clamp(1, limits::RECEIVE_BATCH);
            let received = poll_fn(|cx| {
                if !stopping && stopped.as_mut().poll(cx).is_ready() {
                    stopping = true;
                    subscription.stop();
                }
                subscription.poll_receive(cx, &mut batch, max)
            });
            if received.await == 0 {
                break;
            }
            for received in batch.drain(..) {
                self.take(received).await;
            }
        }
        self.bus.inner().targets.remove(&self.target);
        self.target.over.cancel();
    }

    async fn take(&mut self, received: Received) {
        match received {
            Received::Live(delivery) if !delivery.message().is_expired() => {
                self.start(delivery).await;
            }
            Received::Live(delivery) | Received::Expired(delivery) => {
                self.answer_expired(delivery).await;
            }
            Received::NoResponder => {}
        }
    }

    /// Starts a handler; returns when it is done or runs in a task of its own.
    async fn start(&mut self, delivery: Delivery) {
        // The semaphore is never closed, so this only ever waits for a running handler.
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return;
        };
        let id = delivery.envelope().event_id.clone();
        if self.bus.inner().cancellations.came_early(&id) {
            self.target.cancelled();
            return;
        }
        if self.service.ready().await.is_err() {
            // Our layers are always ready; a foreign one that is not has refused the message.
            return;
        }
        let mut task: BoxFuture<'static, ()> = Box::pin(self.process(delivery));
        let first = poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx))).await;
        if first.is_pending() {
            let rest = async move {
                task.await;
                drop(permit);
            };
            Cancellations::spawn(&self.bus, id, rest);
        }
    }

    /// Makes the future that handles one delivery from start to answer.
    fn process(&mut self, delivery: Delivery) -> impl Future<Output = ()> + Send + 'static {
        let bus = self.bus.clone();
        let target = Arc::clone(&self.target);
        let message = Arc::clone(delivery.message());
        let writer = self.writer(&message);
        let request = Request::new(
            Arc::clone(&message),
            bus.clone(),
            delivery.attempt(),
            writer.clone(),
        );
        let running = target.begin();
        let handled = self.service.call(request);
        async move {
            let outcome = current::handling(Arc::clone(&message), handled).await;
            running.end(outcome.is_ok());
            match (&writer, target.kind) {
                (Some(writer), _) => writer.conclude(outcome.map(drop).as_ref().copied()).await,
                (None, TargetKind::Events) => return settle(delivery, &outcome).await,
                (None, _) => answer(&bus, &message, outcome).await,
            }
            acknowledge(delivery).await;
        }
    }

    fn writer(&self, message: &Arc<Message>) -> Option<StreamWriter> {
        if self.target.kind != TargetKind::Stream {
            return None;
        }
        let reply_to = Subject::parse(&message.envelope.reply_to).ok()?;
        Some(StreamWriter::new(
            self.bus.clone(),
            Arc::clone(message),
            reply_to,
        ))
    }

    /// Tells a waiting caller at once that its request expired in the queue.
    async fn answer_expired(&self, delivery: Delivery) {
        self.target.expired();
        if self.target.kind != TargetKind::Events {
            answer(&self.bus, delivery.message(), Err(Error::Expired)).await;
        }
        let _ = delivery.reject().await;
    }
}

async fn acknowledge(delivery: Delivery) {
    if let Err(error) = delivery.ack().await {
        tracing::warn!(%error, "a handled message could not be acknowledged");
    }
}

/// Settles an event by its handler's outcome, which is what a confirmed publish waits for.
async fn settle(delivery: Delivery, outcome: &Result<Reply, Error>) {
    match outcome {
        Ok(_) => acknowledge(delivery).await,
        Err(error) => {
            let event_id = &delivery.envelope().event_id;
            tracing::warn!(subject = %delivery.subject(), %event_id, %error, "event handler failed");
            let _ = delivery.reject().await;
        }
    }
}

/// Answers a request if it wants an answer.
async fn answer(bus: &Bus, request: &Arc<Message>, outcome: Result<Reply, Error>) {
    let request = &request.envelope;
    if request.reply_to.is_empty() {
        return;
    }
    let sent = match outcome {
        Ok(reply) => send_reply(bus, request, reply).await,
        Err(error) => send_error(bus, request, &error).await,
    };
    if let Err(error) = sent {
        let event_id = &request.event_id;
        tracing::debug!(reply_to = %request.reply_to, %event_id, %error, "reply not delivered");
    }
}

/// Sends the reply to a request. One that the carrier finds too large becomes an error reply,
/// because a caller must not wait for what will never come.
pub(crate) async fn send_reply(bus: &Bus, request: &Envelope, reply: Reply) -> Result<(), Error> {
    let from = bus.agent_id_text();
    let reply = match reply {
        Reply::Empty => request.final_reply(mint::stamp(), from.clone(), None),
        Reply::Payload(payload) => request.final_reply(mint::stamp(), from.clone(), Some(payload)),
        Reply::Envelope(envelope) => request.adopt_reply(*envelope, from),
    };
    match publish_reply(bus, request, reply).await {
        Err(Error::Transport(error @ TransportError::TooLarge { .. })) => {
            send_error(bus, request, &error.into()).await
        }
        outcome => outcome,
    }
}

async fn send_error(bus: &Bus, request: &Envelope, error: &Error) -> Result<(), Error> {
    let from = bus.agent_id_text().clone();
    let reply = request.error_reply(mint::stamp(), from, &error.to_payload());
    publish_reply(bus, request, reply).await
}

async fn publish_reply(bus: &Bus, request: &Envelope, reply: Envelope) -> Result<(), Error> {
    if request.reply_to.is_empty() {
        return Err(Error::NoReplyTo);
    }
    let subject = Subject::parse(&request.reply_to)?;
    let message = Arc::new(Message::new(subject, reply));
    bus.transport()
        .publish(message, PublishOptions::default())
        .await?;
    Ok(())
}
