//! Subscribing to events.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agentbus_protocol::{Pattern, SubjectSpace, Text};
use agentbus_transport::{BoxFuture, Delivery, Overflow, Received, Start, Subscribe};
use futures_util::Stream;
use tokio::task::JoinHandle;

use crate::cancel::Cancellations;
use crate::{Bus, Error, dead_letters, limits};

/// A subscription about to begin.
#[derive(Debug)]
#[must_use = "nothing is subscribed until this is awaited"]
pub struct SubscribeBuilder<'a> {
    bus: &'a Bus,
    pattern: Text,
    tenant: Text,
    group: Option<Text>,
    durable: Option<Text>,
    start: Start,
    lease: Option<Duration>,
    max_attempts: Option<u32>,
    capacity: usize,
    overflow: Overflow,
}

impl<'a> SubscribeBuilder<'a> {
    pub(crate) fn new(bus: &'a Bus, pattern: Text) -> Self {
        Self {
            bus,
            pattern,
            tenant: Text::default(),
            group: None,
            durable: None,
            start: Start::New,
            lease: None,
            max_attempts: None,
            capacity: agentbus_transport::limits::QUEUE_CAPACITY,
            overflow: Overflow::Wait,
        }
    }

    /// Listens in this tenant instead of that of the bus; an empty one is that of the bus.
    pub fn tenant(mut self, tenant: impl Into<Text>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Shares the events with the other members of this group; each goes to one of them.
    pub fn queue(mut self, group: impl Into<Text>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Uses a name that outlives this connection.
    pub fn durable(mut self, name: impl Into<Text>) -> Self {
        self.durable = Some(name.into());
        self
    }

    /// Begins elsewhere than with the next event.
    pub const fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets how long an event may be worked on before it is given to somebody else.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets how many attempts an event gets before it is a dead letter.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Sets how many events may wait in the queue.
    pub const fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets what happens when the queue is full.
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    async fn open(self) -> Result<Subscription, Error> {
        self.bus.check_open()?;
        let pattern = self.full_pattern()?;
        let request = self.into_request(pattern);
        Subscription::open(request.0, request.1).await
    }

    fn full_pattern(&self) -> Result<Pattern, Error> {
        let space = self.bus.subjects();
        if self.tenant.is_empty() {
            return events_pattern(space, &self.pattern);
        }
        events_pattern(&space.with_tenant(&self.tenant)?, &self.pattern)
    }

    fn into_request(self, pattern: Pattern) -> (&'a Bus, Subscribe) {
        let mut request = Subscribe::new(pattern);
        request.group = self.group;
        request.durable = self.durable;
        request.start = self.start;
        request.lease = self.lease;
        request.max_attempts = self.max_attempts;
        request.dead_letters = self.bus.subjects().prefix().into();
        request.capacity = self.capacity;
        request.overflow = self.overflow;
        if request.group.is_some() {
            request.prefetch = 1;
        }
        (self.bus, request)
    }
}

/// Returns the subjects of a pattern of events, for a subscription that is made without a [`Bus`].
///
/// What the pattern leaves out is said in the log, as it is for those of a bus: it looks like
/// silence otherwise.
///
/// # Errors
/// Fails when it is no pattern.
///
/// ```
/// use agentbus::protocol::SubjectSpace;
///
/// let pattern = agentbus::events_pattern(&SubjectSpace::default(), "order.*")?;
/// assert_eq!(pattern.as_str(), "acp.v1.events.order.*");
/// # Ok::<(), agentbus::Error>(())
/// ```
pub fn events_pattern(space: &SubjectSpace, pattern: &str) -> Result<Pattern, Error> {
    let subjects = space.events_pattern(pattern)?;
    let topics: Vec<_> = space.unheard(pattern).map(Pattern::as_str).collect();
    if !topics.is_empty() {
        let topics = topics.join(", ");
        tracing::warn!(%pattern, %topics, "a pattern matches topics that are shared with AMB peers and does not hear them; subscribe to them by themselves");
    }
    Ok(subjects)
}

impl<'a> IntoFuture for SubscribeBuilder<'a> {
    type Output = Result<Subscription, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// A running subscription: a stream of deliveries. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    source: agentbus_transport::Subscription,
    batch: Vec<Received>,
    /// A member of a group takes one at a time and leaves the rest to the others.
    batch_max: usize,
    /// Events lost, to be told with the next delivery.
    missed: u64,
    /// Where what expired is buried; `None` without a durable name, for which nothing was kept.
    buries: Option<Bus>,
    /// The last that expired, on its way into the dead letters. Waited for before the next is
    /// taken, so that they do not pile up.
    burying: Option<JoinHandle<()>>,
}

impl Subscription {
    async fn open(bus: &Bus, request: Subscribe) -> Result<Self, Error> {
        bus.transport().capabilities().check(&request)?;
        // What waits in our batch is in our hands already, and a lease would run out on it.
        let leased = request.is_kept();
        let batch_max = match leased {
            true => 1,
            false => request.prefetch.min(limits::RECEIVE_BATCH),
        };
        // Whoever only reads again what others were sent has not let anything expire.
        let buries = request.durable.is_some().then(|| bus.clone());
        let source = bus.transport().subscribe(request).await?;
        Ok(Self {
            source,
            batch: Vec::new(),
            batch_max,
            missed: 0,
            buries,
            burying: None,
        })
    }

    /// Receives the next event; `None` when there will be no more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        let waiting = Waiting(self);
        std::future::poll_fn(|cx| waiting.0.poll_delivery(cx)).await
    }

    /// Takes no new events from now on; those that wait can still be received.
    pub fn stop(&mut self) {
        self.source.stop();
    }

    /// Polls for the next event; see [`Subscription::next`].
    pub fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            if let Some(burying) = &mut self.burying {
                let _ = ready!(Pin::new(burying).poll(cx));
                self.burying = None;
            }
            // Batches are kept in reverse so that the oldest is popped from the end.
            if let Some(received) = self.batch.pop() {
                match self.take(received) {
                    Some(delivery) => return Poll::Ready(Some(delivery)),
                    None => continue,
                }
            }
            match self
                .source
                .poll_receive(cx, &mut self.batch, self.batch_max)
            {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(0) => return Poll::Ready(None),
                Poll::Ready(_) => self.batch.reverse(),
            }
        }
    }

    /// Sorts out what has expired, also while it waited in the batch.
    fn take(&mut self, received: Received) -> Option<Delivery> {
        let (delivery, live) = match received {
            Received::Live(delivery) => (delivery, true),
            Received::Expired(delivery) => (delivery, false),
            Received::NoResponder | Received::Lost => return None,
        };
        self.missed += delivery.missed();
        if !live || delivery.message().is_expired() {
            self.give_up(delivery);
            return None;
        }
        Some(delivery.after_missing(std::mem::take(&mut self.missed)))
    }

    /// Ends a delivery that came too late.
    fn give_up(&mut self, delivery: Delivery) {
        match &self.buries {
            Some(bus) => {
                let message = Arc::clone(delivery.message());
                let burial = dead_letters::bury_expired(bus.clone(), delivery);
                self.burying = Some(Cancellations::spawn(bus, &message, burial));
            }
            // The carrier only has to know that nobody will act on it.
            None => drop(delivery.reject()),
        }
    }
}

/// A wait that may be given up; the wake-up that was meant for it is then somebody else's.
struct Waiting<'a>(&'a mut Subscription);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.source.stand_down();
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll_delivery(cx)
    }
}
