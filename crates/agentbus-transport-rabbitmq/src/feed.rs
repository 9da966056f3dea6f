//! One plain subscription: what it heard, and what becomes of it.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use agentbus_protocol::Pattern;
use agentbus_transport::remote::{Drain, Queue, amb};
use agentbus_transport::{
    Completion, QueueStats, Received, Settle, Source, TransportError, Verdict,
};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::ear::Ear;
use crate::errors::NAME;
use crate::limits;
use crate::line::backoff;
use crate::link::Link;
use crate::names::binding;

pub(crate) struct Feed {
    link: Arc<Link>,
    number: u64,
    queue: String,
    key: String,
    pattern: Pattern,
    backlog: Arc<Queue>,
    /// Ends the taking of more.
    stopped: CancellationToken,
}

impl Feed {
    /// Subscribes; every later publish reaches it when this returns.
    pub(crate) async fn open(
        link: &Arc<Link>,
        pattern: Pattern,
        capacity: usize,
    ) -> Result<FeedSource, TransportError> {
        let key = binding(&pattern)?;
        let number = link.number();
        let feed = Arc::new(Self {
            link: Arc::clone(link),
            number,
            queue: link.names().plain(link.client(), number),
            key,
            pattern,
            backlog: Arc::new(Queue::new(capacity)),
            stopped: CancellationToken::new(),
        });
        let seen: Weak<dyn Drain> = Arc::downgrade(&feed) as _;
        let source = FeedSource(Arc::clone(&feed));
        link.receivers().enter(NAME, number, seen)?;
        let ear = feed.listen().await?;
        link.spawn(feed.run(ear));
        Ok(source)
    }

    async fn listen(&self) -> Result<Ear, TransportError> {
        Ear::open(&self.link, &self.queue, &self.key, limits::READY_TIMEOUT).await
    }

    /// Takes in what is heard, over reconnects, until the subscription ends. What is published
    /// while there is no connection is not heard: whoever must hear everything uses a durable name.
    async fn run(self: Arc<Self>, mut ear: Ear) {
        loop {
            tokio::select! {
                () = self.stopped.cancelled() => break,
                () = self.hear(&mut ear) => {}
            }
            let again = self.listen_again();
            ear = tokio::select! {
                () = self.stopped.cancelled() => return self.finish(),
                ear = again => ear,
            };
        }
        // The answer comes after all that was sent before, and the queue goes with its consumer.
        ear.stop().await;
        self.hear(&mut ear).await;
        self.finish();
    }

    async fn listen_again(&self) -> Ear {
        let mut pause = backoff();
        loop {
            match self.listen().await {
                Ok(ear) => return ear,
                Err(error) => tracing::debug!(%error, "a subscription is not heard yet"),
            }
            pause.wait().await;
        }
    }

    async fn hear(&self, ear: &mut Ear) {
        while let Some(delivery) = ear.next().await {
            self.take(&delivery.data.into());
        }
    }

    fn take(&self, data: &Bytes) {
        let message = match amb::decode(data) {
            Ok(read) => read.message,
            Err(error) => {
                tracing::warn!(queue = self.queue, %error, "a message cannot be read");
                return;
            }
        };
        // Replies of AMB peers pass the exchange, and are for who asked.
        let subject = message.subject.as_str();
        if !message.subject.is_inbox() && self.pattern.matches(subject) {
            self.backlog.put(&Arc::new(message));
        }
    }

    fn finish(&self) {
        self.backlog.finish();
        self.link.receivers().note_drained();
    }
}

impl Drain for Feed {
    fn stop(self: Arc<Self>) {
        if self.backlog.begin_stop() {
            self.stopped.cancel();
        }
    }

    fn is_drained(&self) -> bool {
        self.backlog.is_drained()
    }

    fn end(&self) -> usize {
        self.stopped.cancel();
        self.backlog.end().len()
    }

    fn stats(&self) -> QueueStats {
        self.backlog.stats(self.pattern.as_str(), None)
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
            let later = self.backlog.put_back(message, attempt, delay, ending);
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
pub(crate) struct FeedSource(Arc<Feed>);

impl Source for FeedSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let feed = &self.0;
        let polled = feed
            .backlog
            .poll(cx, batch, max.max(1), |_| Arc::clone(feed) as _);
        if feed.backlog.is_drained() {
            feed.link.receivers().note_drained();
        }
        polled
    }

    fn stop(&mut self) {
        Arc::clone(&self.0).stop();
    }
}

impl Drop for FeedSource {
    fn drop(&mut self) {
        let feed = &self.0;
        feed.link.receivers().leave(feed.number);
        feed.end();
    }
}
