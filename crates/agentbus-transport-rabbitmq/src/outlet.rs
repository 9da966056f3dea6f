//! The way out.
//!
//! Publishes share one channel, as many under way as there are publishers, each confirmed by the
//! broker. They leave in the order of the calls.
//!
//! A publish that must be heard asks the broker to return what nobody listens for. When several
//! are under way on a channel, the client library gives what came back to whichever is confirmed
//! next; so these go one at a time, on a few channels of their own. All that goes to one place
//! takes the same of them, which keeps its order.

use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use agentbus_protocol::Subject;
use agentbus_transport::{Completion, TransportError};
use foldhash::quality::FixedState;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::errors::{carrier, failed};
use crate::limits;
use crate::line::Line;

/// A message ready for the wire.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) subject: Subject,
    pub(crate) exchange: ShortString,
    pub(crate) key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
}

type Sent = Result<(), TransportError>;
type Sending = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// What every publish of a transport goes through.
pub(crate) struct Outlet {
    line: Arc<Line>,
    shared: Mutex<Option<Arc<Shared>>>,
    /// Those who wait for a connection go out in the order in which they came.
    turn: tokio::sync::Mutex<()>,
    /// How many wait; while anybody does, nobody overtakes.
    waiting: AtomicUsize,
    room: Arc<Semaphore>,
    /// Channels with one publish under way at a time; opened when first used.
    asking: Vec<tokio::sync::Mutex<Option<Channel>>>,
    hasher: FixedState,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

/// The channel that publishes share.
struct Shared {
    channel: Channel,
    /// The library numbers a publish before it queues it: without a lock two could change places
    /// in between, and each would hear of the other's fate.
    order: Mutex<()>,
}

impl Outlet {
    pub(crate) fn new(line: Arc<Line>) -> Self {
        let asking = (0..limits::ASKING_CHANNELS).map(|_| tokio::sync::Mutex::default());
        Self {
            line,
            shared: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            room: Arc::new(Semaphore::new(limits::UNCONFIRMED)),
            asking: asking.collect(),
            hasher: FixedState::default(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Publishes; it is on its way when this returns, unless the connection is away or too many
    /// are ahead.
    pub(crate) fn send(self: &Arc<Self>, parcel: Parcel) -> Completion<Sent> {
        if self.waiting.load(Ordering::Acquire) == 0
            && let Some(shared) = self.shared_now()
            && let Ok(place) = Arc::clone(&self.room).try_acquire_owned()
        {
            let subject = parcel.subject.clone();
            let underway = self.start(&shared, parcel, place);
            return Completion::waiting(confirmed(underway, subject));
        }
        let waiting = Waiting::new(self);
        let mut later = Box::pin(async move { waiting.send(parcel).await });
        // Looked at once here, which is when it takes its place in the line.
        match later.as_mut().poll(&mut nobody()) {
            Poll::Ready(sent) => Completion::ready(sent),
            Poll::Pending => Completion::Waiting(later),
        }
    }

    fn shared_now(&self) -> Option<Arc<Shared>> {
        let shared = self.shared.lock();
        shared
            .as_ref()
            .filter(|shared| shared.channel.status().connected())
            .map(Arc::clone)
    }

    /// The shared channel, opened again where it was lost. Only for who has the turn.
    async fn shared_again(&self) -> Result<Arc<Shared>, TransportError> {
        if let Some(shared) = self.shared_now() {
            return Ok(shared);
        }
        let shared = Arc::new(Shared {
            channel: self.line.confirming(limits::PUBLISH_TIMEOUT).await?,
            order: Mutex::new(()),
        });
        *self.shared.lock() = Some(Arc::clone(&shared));
        Ok(shared)
    }

    fn start(&self, shared: &Shared, parcel: Parcel, place: OwnedSemaphorePermit) -> Underway {
        let channel = shared.channel.clone();
        let mut sending: Sending = Box::pin(async move { publish(&channel, parcel, false).await });
        let order = shared.order.lock();
        let first = sending.as_mut().poll(&mut nobody());
        drop(order);
        let (sending, early) = match first {
            Poll::Ready(outcome) => (None, Some(outcome)),
            Poll::Pending => (Some(sending), None),
        };
        Underway {
            sending,
            early,
            place: Some(place),
            tasks: self.tasks.clone(),
            runtime: self.runtime.clone(),
        }
    }

    /// Publishes and says when nobody listens.
    pub(crate) async fn ask(&self, parcel: Parcel) -> Sent {
        let number = self.hasher.hash_one(parcel.key.as_str());
        let place = usize::try_from(number).unwrap_or(usize::MAX) % self.asking.len();
        let mut slot = self.asking[place].lock().await;
        // Whoever gives up while its message is under way leaves no channel behind that would give
        // its fate to the next.
        let channel = match slot.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.line.confirming(limits::PUBLISH_TIMEOUT).await?,
        };
        let subject = parcel.subject.clone();
        let answer = in_time(publish(&channel, parcel, true)).await?;
        if answer.is_ok() {
            *slot = Some(channel);
        }
        outcome(answer, subject)
    }

    /// Waits until nothing is under way.
    pub(crate) async fn flush(&self) {
        let all = u32::try_from(limits::UNCONFIRMED).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let _ = self.room.acquire_many(all).await;
    }
}

/// For a look at what goes on for somebody who comes back for the end.
const fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

async fn publish(
    channel: &Channel,
    parcel: Parcel,
    mandatory: bool,
) -> lapin::Result<Confirmation> {
    let Parcel {
        exchange,
        key,
        properties,
        body,
        ..
    } = parcel;
    let options = BasicPublishOptions {
        mandatory,
        ..BasicPublishOptions::default()
    };
    let confirm = channel
        .basic_publish(exchange, key, options, &body, properties)
        .await?;
    confirm.await
}

/// Waits for the end of a publish.
async fn confirmed(underway: Underway, subject: Subject) -> Sent {
    outcome(in_time(underway).await?, subject)
}

/// A queue that has lost its leader may keep the broker from an answer for ever.
async fn in_time<T>(publish: impl Future<Output = T>) -> Result<T, TransportError> {
    let late = |_| {
        let within = limits::PUBLISH_TIMEOUT;
        carrier(format!(
            "the broker has confirmed nothing within {within:?}; the message may or may not have been taken"
        ))
    };
    timeout(limits::PUBLISH_TIMEOUT, publish)
        .await
        .map_err(late)
}

fn outcome(answer: lapin::Result<Confirmation>, subject: Subject) -> Sent {
    match answer {
        Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Ok(()),
        Ok(Confirmation::Ack(Some(_))) => Err(TransportError::NoResponder { subject }),
        // A queue that is full is the only reason that a broker in good health has.
        Ok(Confirmation::Nack(_)) => Err(TransportError::QueueFull {
            subject,
            capacity: limits::QUEUE_MESSAGES as usize,
        }),
        Err(error) => Err(carrier(format!(
            "{}; the message may or may not have been taken",
            failed(&error)
        ))),
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

/// A publish that waits for its turn.
struct Waiting(Arc<Outlet>);

impl Waiting {
    fn new(outlet: &Arc<Outlet>) -> Self {
        outlet.waiting.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(outlet))
    }

    async fn send(self, parcel: Parcel) -> Sent {
        let subject = parcel.subject.clone();
        let underway = {
            let outlet = &self.0;
            let _turn = outlet.turn.lock().await;
            let place = Arc::clone(&outlet.room).acquire_owned().await;
            let place = place.map_err(|_| TransportError::Closed)?;
            let shared = outlet.shared_again().await?;
            outlet.start(&shared, parcel, place)
        };
        drop(self);
        confirmed(underway, subject).await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A publish of which the broker has not said yet what became of it.
///
/// Somebody who does not wait for the end leaves it to a task: the library would keep the outcome
/// for a caller who never comes.
struct Underway {
    sending: Option<Sending>,
    /// What was known at once.
    early: Option<lapin::Result<Confirmation>>,
    place: Option<OwnedSemaphorePermit>,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

impl Future for Underway {
    type Output = lapin::Result<Confirmation>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(early) = this.early.take() {
            return Poll::Ready(early);
        }
        let Some(sending) = &mut this.sending else {
            return Poll::Pending;
        };
        let polled = sending.as_mut().poll(cx);
        if polled.is_ready() {
            this.sending = None;
            this.place = None;
        }
        polled
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let Some(sending) = self.sending.take() {
            let place = self.place.take();
            let rest = async move {
                if let Err(error) = sending.await {
                    tracing::debug!(%error, "a publish that nobody waited for failed");
                }
                drop(place);
            };
            self.tasks.spawn_on(rest, &self.runtime);
        }
    }
}
