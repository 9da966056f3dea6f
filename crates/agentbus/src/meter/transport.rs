//! The transport that counts.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use agentbus_protocol::{Pattern, SubjectSpace};
use agentbus_transport::{
    BoxFuture, Capabilities, Completion, Drained, DurableInfo, Inbox, Message, PublishOptions,
    Receipt, Received, Source, Subscribe, Subscription, Transport, TransportError, TransportStats,
};

use super::Meter;

/// A transport with a meter. Replies to calls pass uncounted: the request was counted.
#[derive(Debug)]
pub(crate) struct Metered {
    inner: Arc<dyn Transport>,
    meter: Arc<Meter>,
}

impl Metered {
    pub(crate) fn new(inner: Arc<dyn Transport>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl Transport for Metered {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn shared_topics(&self) -> &[Pattern] {
        self.inner.shared_topics()
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        if message.subject.is_inbox() {
            return self.inner.publish(message, options);
        }
        let begun = Instant::now();
        match self.inner.publish(Arc::clone(&message), options) {
            Completion::Ready(Some(outcome)) => {
                self.meter.published(&message, begun.elapsed(), &outcome);
                Completion::ready(outcome)
            }
            Completion::Ready(None) => Completion::Ready(None),
            Completion::Waiting(taking) => {
                let meter = Arc::clone(&self.meter);
                Completion::waiting(async move {
                    let outcome = taking.await;
                    meter.published(&message, begun.elapsed(), &outcome);
                    outcome
                })
            }
        }
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>> {
        Box::pin(async move {
            let inner = self.inner.subscribe(request).await?;
            let meter = Arc::clone(&self.meter);
            Ok(Subscription::new(Counted { inner, meter }))
        })
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        self.inner.open_inbox()
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        self.inner.close(drain)
    }

    fn stats(&self) -> TransportStats {
        self.inner.stats()
    }

    fn subjects(&self) -> Option<SubjectSpace> {
        self.inner.subjects()
    }

    fn remove_durable<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), TransportError>> {
        self.inner.remove_durable(name)
    }

    fn durables(&self) -> BoxFuture<'_, Result<Vec<DurableInfo>, TransportError>> {
        self.inner.durables()
    }
}

/// A subscription whose deliveries are counted.
#[derive(Debug)]
struct Counted {
    inner: Subscription,
    meter: Arc<Meter>,
}

impl Source for Counted {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let before = batch.len();
        let polled = self.inner.poll_receive(cx, batch, max);
        for received in batch.iter().skip(before) {
            if let Received::Live(delivery) = received {
                self.meter.delivered(delivery.envelope());
            }
        }
        polled
    }

    fn stop(&mut self) {
        self.inner.stop();
    }

    fn stand_down(&mut self) {
        self.inner.stand_down();
    }
}
