//! A plain subscription: what a channel says, in a queue of this process.

use std::sync::Arc;
use std::task::{Context, Poll};

use agentbus_protocol::Pattern;
use agentbus_transport::remote::{Drain, Queue};
use agentbus_transport::{
    Completion, Message, QueueStats, Received, Settle, Source, TransportError, Verdict,
};

use crate::hearing::Topic;
use crate::limits;
use crate::link::Link;

pub(crate) struct Feed {
    link: Arc<Link>,
    pub(crate) pattern: Pattern,
    pub(crate) topic: Topic,
    number: u64,
    queue: Arc<Queue>,
}

impl Feed {
    /// Subscribes; when this returns, the server knows.
    pub(crate) async fn open(
        link: &Arc<Link>,
        pattern: Pattern,
        capacity: usize,
    ) -> Result<Arc<Self>, TransportError> {
        let topic = Topic::of(link.names(), &pattern);
        let number = link.number();
        let feed = Arc::new(Self {
            link: Arc::clone(link),
            pattern,
            topic,
            number,
            queue: Arc::new(Queue::new(capacity)),
        });
        let seen: std::sync::Weak<dyn Drain> = Arc::downgrade(&feed) as _;
        link.enter(number, seen)?;
        if let Err(error) = link.hearing().add(&feed).await {
            feed.close();
            return Err(error);
        }
        Ok(feed)
    }

    /// Takes a message in.
    pub(crate) fn put(&self, message: &Arc<Message>) {
        self.queue.put(message);
    }

    /// Ends the subscription for good, and with it whatever waits.
    fn close(self: &Arc<Self>) {
        self.link.leave(self.number);
        self.end();
        self.unsubscribe();
    }

    fn unsubscribe(self: &Arc<Self>) {
        let feed = Arc::clone(self);
        self.link.spawn(async move {
            feed.link.hearing().remove(&feed).await;
        });
    }

    /// Takes no new messages once the server has delivered what was published before.
    async fn finish(self: Arc<Self>) {
        // When the server does not answer, what it had sent is not coming either.
        let _ = self.link.hearing().echo(limits::STOP_TIMEOUT).await;
        self.queue.finish();
        self.link.hearing().remove(&self).await;
        self.link.note_drained();
    }
}

impl Drain for Feed {
    fn stop(self: Arc<Self>) {
        if self.queue.begin_stop() {
            let link = Arc::clone(&self.link);
            link.spawn(self.finish());
        }
    }

    fn is_drained(&self) -> bool {
        self.queue.is_drained()
    }

    fn end(&self) -> usize {
        self.queue.end().len()
    }

    fn stats(&self) -> QueueStats {
        self.queue.stats(self.pattern.as_str(), None)
    }
}

impl Settle for Feed {
    fn settle(
        self: Arc<Self>,
        _token: u128,
        verdict: Verdict,
    ) -> Completion<Result<(), TransportError>> {
        if let Verdict::Nak {
            message,
            attempt,
            delay,
        } = verdict
            && !self.link.is_closed()
        {
            let ending = self.link.ending().clone();
            let later = self.queue.put_back(message, attempt, delay, ending);
            if let Some(wait) = later {
                self.link.spawn(wait);
            }
        }
        Completion::ready(Ok(()))
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

/// Hands out what a feed has. Dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct FeedSource(pub(crate) Arc<Feed>);

impl Source for FeedSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let feed = &self.0;
        let settle = |_: &Arc<Message>| Arc::clone(feed) as Arc<dyn Settle>;
        let polled = feed.queue.poll(cx, batch, max, settle);
        if feed.queue.is_drained() {
            feed.link.note_drained();
        }
        polled
    }

    fn stop(&mut self) {
        Arc::clone(&self.0).stop();
    }
}

impl Drop for FeedSource {
    fn drop(&mut self) {
        self.0.close();
    }
}
