//! Serving targets and events.

use std::future::IntoFuture;
use std::sync::Arc;

use agentbus_protocol::Text;
use agentbus_transport::{BoxFuture, Overflow, Subscribe};

use crate::cancel::Cancellations;
use crate::handler::{HandlerService, Served};
use crate::targets::{Registration, Target, TargetKind};
use crate::worker::Worker;
use crate::{Bus, Error, limits, subscribe};

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
        self.concurrency = concurrency.max(1);
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
            let mut request = subscribe_request(self.bus, &target, self.capacity, self.overflow)?;
            if target.group.is_some() {
                request.prefetch = self.concurrency;
            }
            Ok(inner.transport.subscribe(request).await?)
        };
        let subscription = match registered.await {
            Ok(subscription) => subscription,
            Err(error) => {
                inner.targets.remove(&target);
                return Err(error);
            }
        };
        let served = Arc::new(Served {
            bus: self.bus.clone(),
            target: Arc::clone(&target),
        });
        let start = (inner.layers)(self.service);
        let worker = Worker::new(served, start, self.concurrency);
        let task = inner.tasks.spawn(worker.run(subscription));
        target.set_worker(task.abort_handle());
        Ok(Registration::new(target))
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
        TargetKind::Events => subscribe::events_pattern(bus.subjects(), &target.name)?,
        TargetKind::Invoke | TargetKind::Stream => (&bus.subjects().invoke(&target.name)?).into(),
    };
    let mut request = Subscribe::new(pattern);
    request.group.clone_from(&target.group);
    request.capacity = capacity;
    request.overflow = overflow;
    Ok(request)
}
