//! One worker task per handler.
//!
//! The worker takes messages in batches and starts each handler itself. A handler that is done at
//! its first poll costs no task; one that has to wait is moved to a task of its own, so that slow
//! requests run side by side up to the handler's concurrency. Beyond it the worker takes no more
//! from the queue, which then fills and slows its publishers.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::vec::Drain;

use agentbus_protocol::Subject;
use agentbus_transport::{
    BoxFuture, Completion, Delivery, Message, Received, Settlement, Subscription,
};
use futures_util::task::AtomicWaker;
use tokio::task::coop;
use tower::Layer;

use crate::cancel::Cancellations;
use crate::handler::{Handler, HandlerService, Request, Served};
use crate::handling::Handling;
use crate::middleware::Recover;
use crate::targets::TargetKind;
use crate::telemetry::OpenSpan;
use crate::{Error, StreamWriter, answer, dead_letters, limits, turn};

/// Puts the bus's layers around a handler.
pub(crate) type Layers = Arc<dyn Fn(HandlerService) -> Box<dyn Start> + Send + Sync>;

/// A handler within its layers, of which only this much is known: how to start it.
pub(crate) trait Start: Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Handles a request up to its answer, or as far as that goes without a wait.
    fn start(
        &mut self,
        cx: &mut Context<'_>,
        request: Request,
        settlement: Settlement,
        span: OpenSpan,
    ) -> Option<Unfinished>;

    /// Runs a request through the layers; whoever asked is not answered.
    fn call(&mut self, request: Request) -> BoxFuture<'static, ()>;
}

/// What is left to do of a request whose handler has to wait.
pub(crate) struct Unfinished {
    message: Arc<Message>,
    rest: BoxFuture<'static, ()>,
}

/// Keeps the layers as one service whose type is known to the compiler, so that they cost no
/// allocation and no dynamic call of their own.
pub(crate) fn layers<L>(layer: L) -> Layers
where
    L: Layer<HandlerService> + Send + Sync + 'static,
    L::Service: Handler + Send + 'static,
    <L::Service as tower::Service<Request>>::Future: Send,
{
    Arc::new(move |handler| {
        Box::new(Layered {
            service: Recover.layer(layer.layer(handler)),
            room: Box::pin(None),
        })
    })
}

struct Layered<S: Handler> {
    service: S,
    /// The room for one handling, used again for each message whose handler does not have to wait.
    room: Pin<Box<Option<Handling<S::Future>>>>,
}

impl<S> Start for Layered<S>
where
    S: Handler + Send,
    S::Future: Send + 'static,
{
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(cx)
    }

    fn start(
        &mut self,
        cx: &mut Context<'_>,
        request: Request,
        settlement: Settlement,
        span: OpenSpan,
    ) -> Option<Unfinished> {
        let handled = self.service.call(request.clone());
        let handling = Handling::new(request, settlement, span, handled);
        self.room.set(Some(handling));
        let mut handling = self.room.as_mut().as_pin_mut()?;
        if handling.as_mut().poll(cx).is_ready() {
            self.room.set(None);
            return None;
        }
        // There, because it is elsewhere only while the handler is being polled.
        let message = handling.message()?;
        let mut room = std::mem::replace(&mut self.room, Box::pin(None));
        let rest = poll_fn(move |cx| match room.as_mut().as_pin_mut() {
            Some(handling) => handling.poll(cx),
            None => Poll::Ready(()),
        });
        Some(Unfinished {
            message,
            rest: Box::pin(rest),
        })
    }

    fn call(&mut self, request: Request) -> BoxFuture<'static, ()> {
        let handled = self.service.call(request);
        Box::pin(async move { drop(handled.await) })
    }
}

pub(crate) struct Worker {
    served: Arc<Served>,
    start: Box<dyn Start>,
    places: Arc<Places>,
    /// Who was told to be woken by the stop signal.
    watching: Option<Waker>,
}

impl Worker {
    pub(crate) fn new(served: Arc<Served>, start: Box<dyn Start>, concurrency: usize) -> Self {
        Self {
            served,
            start,
            places: Arc::new(Places {
                max: concurrency,
                taken: AtomicUsize::new(0),
                waiting: AtomicWaker::new(),
            }),
            watching: None,
        }
    }

    pub(crate) async fn run(mut self, mut subscription: Subscription) {
        let _over = Over(Arc::clone(&self.served));
        let mut batch = Vec::with_capacity(limits::RECEIVE_BATCH);
        let mut stopped = false;
        let mut worked = false;
        while poll_fn(|cx| {
            let received = self.poll_receive(cx, &mut subscription, &mut stopped, &mut batch);
            if received.is_pending() && std::mem::take(&mut worked) {
                turn::end(cx);
            }
            received
        })
        .await
        {
            worked = true;
            let mut waiting = batch.drain(..);
            poll_fn(|cx| self.poll_start(cx, &mut waiting)).await;
        }
    }

    /// Fills the batch; ready with `false` when nothing more will come.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        subscription: &mut Subscription,
        stopped: &mut bool,
        batch: &mut Vec<Received>,
    ) -> Poll<bool> {
        // A queue that never runs empty must not keep the thread to itself.
        let budget = ready!(coop::poll_proceed(cx));
        loop {
            if !*stopped && self.served.target.stop.is_given() {
                *stopped = true;
                subscription.stop();
            }
            if let Poll::Ready(count) = subscription.poll_receive(cx, batch, self.batch_max()) {
                budget.made_progress();
                return Poll::Ready(count > 0);
            }
            if *stopped || !self.watch(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Whether the stop signal was given; if not, the worker is woken when it is. A task has the
    /// same waker for all its life, so this is rarely more than a look.
    fn watch(&mut self, cx: &Context<'_>) -> bool {
        let stop = &self.served.target.stop;
        if self
            .watching
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            return stop.is_given();
        }
        self.watching = Some(cx.waker().clone());
        stop.is_given_or_watch(cx)
    }

    /// A member of a group takes only what it can start at once and leaves the rest to the others.
    fn batch_max(&self) -> usize {
        match self.served.target.group {
            Some(_) => self.places.free().clamp(1, limits::RECEIVE_BATCH),
            None => limits::RECEIVE_BATCH,
        }
    }

    /// Starts the handlers of all that was received, each when there is a place for it.
    fn poll_start(&mut self, cx: &mut Context<'_>, waiting: &mut Drain<'_, Received>) -> Poll<()> {
        while !waiting.as_slice().is_empty() {
            ready!(self.places.poll_free(cx));
            // Our layers are always ready; a foreign one that fails refuses one message.
            let refusal = ready!(self.start.poll_ready(cx)).err();
            match waiting.next() {
                Some(Received::Live(delivery)) if !delivery.message().is_expired() => match refusal
                {
                    None => self.start(cx, delivery),
                    Some(error) => self.turn_away(delivery, error),
                },
                Some(Received::Live(delivery) | Received::Expired(delivery)) => {
                    self.answer_expired(delivery);
                }
                Some(Received::NoResponder | Received::Lost) | None => {}
            }
        }
        Poll::Ready(())
    }

    /// Starts a handler; when this returns it is done or runs in a task of its own.
    fn start(&mut self, cx: &mut Context<'_>, delivery: Delivery) {
        let Served { bus, target } = &*self.served;
        if bus.inner().cancellations.came_early(delivery.message()) {
            return target.cancelled();
        }
        let attempt = delivery.attempt();
        let (mut message, settlement) = delivery.into_parts();
        let mut span = OpenSpan::default();
        if let sink @ Some(_) = bus.inner().spans.as_ref() {
            let envelope = &mut Arc::make_mut(&mut message).envelope;
            span = OpenSpan::handler(sink, target, envelope).addressed(message.subject.as_str());
        }
        let writer = self.writer(&message);
        let served = Arc::clone(&self.served);
        let request = Request::new(message, served, attempt, writer);
        if let Some(unfinished) = self.start.start(cx, request, settlement, span) {
            let Unfinished { message, rest } = unfinished;
            let place = Places::take(&self.places);
            let rest = async move {
                rest.await;
                drop(place);
            };
            Cancellations::spawn(&self.served.bus, &message, rest);
        }
    }

    fn writer(&self, message: &Arc<Message>) -> Option<StreamWriter> {
        if self.served.target.kind != TargetKind::Stream {
            return None;
        }
        let reply_to = Subject::from_text(&message.envelope.reply_to).ok()?;
        let (bus, message) = (self.served.bus.clone(), Arc::clone(message));
        Some(StreamWriter::new(bus, message, reply_to))
    }

    /// Tells a waiting caller at once that its request expired in the queue, and the layers that
    /// an event did.
    fn answer_expired(&self, delivery: Delivery) {
        let Served { bus, target } = &*self.served;
        target.expired();
        if target.kind != TargetKind::Events {
            return self.turn_away(delivery, Error::Expired);
        }
        let (message, place) = (Arc::clone(delivery.message()), Places::take(&self.places));
        let told = dead_letters::tell_expired(Arc::clone(&self.served), delivery);
        let rest = async move {
            told.await;
            drop(place);
        };
        Cancellations::spawn(bus, &message, rest);
    }

    /// Answers a message that no handler will see.
    fn turn_away(&self, delivery: Delivery, error: Error) {
        let Served { bus, target } = &*self.served;
        if target.kind != TargetKind::Events {
            let told = answer::send(bus, delivery.message(), Err(error));
            if let Completion::Waiting(telling) = told {
                bus.inner().tasks.spawn(telling);
            }
        }
        drop(delivery.reject());
    }
}

/// Says that a worker has ended, however it did.
struct Over(Arc<Served>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.bus.inner().targets.remove(&self.0.target);
        self.0.target.over.cancel();
    }
}

/// The places of a handler's concurrency. Only handlers that wait take one.
#[derive(Debug)]
struct Places {
    max: usize,
    taken: AtomicUsize,
    /// The worker, when it waits for a place.
    waiting: AtomicWaker,
}

impl Places {
    fn free(&self) -> usize {
        self.max.saturating_sub(self.taken.load(Ordering::Acquire))
    }

    /// Ready when a place is free. Only the one worker takes places, so it stays free.
    fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        if self.free() > 0 {
            return Poll::Ready(());
        }
        // Looked at again after the registration, so that a place freed in between is not missed.
        self.waiting.register(cx.waker());
        if self.free() > 0 {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn take(this: &Arc<Self>) -> Place {
        this.taken.fetch_add(1, Ordering::AcqRel);
        Place(Arc::clone(this))
    }
}

/// A taken place, free again when dropped.
struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.waiting.wake();
    }
}
