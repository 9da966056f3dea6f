//! The receiving ends that a transport hands out.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use agentbus_protocol::Subject;
use tokio::time::Instant;

use crate::Received;
use crate::memory::InboxSource;

/// Where a receiving end gets its messages from; implemented by each transport.
///
/// Dropping a source ends it: the subject is no longer served by it, and what was queued for it
/// alone is abandoned.
pub trait Source: fmt::Debug + Send + Sync {
    /// Moves up to `max` messages into `batch` and returns how many; 0 means that no more will
    /// ever come. Cancel-safe: a message is either in `batch` or still in the queue.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize>;

    /// Takes the next message; `None` when no more will ever come. Cancel-safe. Worth an
    /// implementation of its own only where messages are taken one by one.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        let mut one = Vec::with_capacity(1);
        self.poll_receive(cx, &mut one, 1).map(|_| one.pop())
    }

    /// Takes no new messages from now on; what is queued can still be received.
    fn stop(&mut self);

    /// Gives up a wait that a poll began. Receivers that share a queue must not leave one another
    /// asleep: a wake-up for one that does not listen any more is passed on.
    fn stand_down(&mut self) {}
}

/// The receiving end of a subscription.
#[derive(Debug)]
pub struct Subscription(Ends);

/// What is behind a receiving end.
#[derive(Debug)]
enum Ends {
    /// That of a call in memory, which is over too soon to be worth an allocation.
    Inbox(InboxSource),
    Other(Box<dyn Source>),
}

impl Ends {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Inbox(source) => source,
            Self::Other(source) => &mut **source,
        }
    }
}

impl Subscription {
    /// Wraps a transport's source.
    #[must_use]
    pub fn new(source: impl Source + 'static) -> Self {
        Self(Ends::Other(Box::new(source)))
    }

    /// Receives the next message; `None` when there will be no more. Cancel-safe.
    pub async fn receive(&mut self) -> Option<Received> {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.0.source().poll_next(cx)).await
    }

    /// Receives what is there, at least one and at most `max`; 0 when there will be no more.
    /// Cancel-safe.
    pub async fn receive_many(&mut self, batch: &mut Vec<Received>, max: usize) -> usize {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.0.source().poll_receive(cx, batch, max)).await
    }

    /// Gives up a wait; see [`Source::stand_down`].
    pub fn stand_down(&mut self) {
        self.0.source().stand_down();
    }

    /// Polls for messages; see [`Source::poll_receive`].
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        self.0.source().poll_receive(cx, batch, max)
    }

    /// Polls for the next reply to a call of one reply; `None` when no more will ever come. Nobody
    /// asks any more after the one that ends the call, so the receiving end may close with it. Where
    /// it [keeps the time](Self::keeps_time), a caller who waits is woken when it is due.
    pub fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<Instant>,
    ) -> Poll<Option<Received>> {
        match &mut self.0 {
            Ends::Inbox(source) => source.poll_reply(cx, due),
            Ends::Other(source) => source.poll_next(cx),
        }
    }

    /// Whether a caller who waits for a reply is woken when it is due, and needs no timer.
    #[must_use]
    pub const fn keeps_time(&self) -> bool {
        matches!(self.0, Ends::Inbox(_))
    }

    /// Takes no new messages from now on; what is queued can still be received.
    pub fn stop(&mut self) {
        self.0.source().stop();
    }
}

/// A wait that may be given up.
struct Waiting<'a>(&'a mut Subscription);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.stand_down();
    }
}

/// A private subject on which the replies to one call arrive.
#[derive(Debug)]
pub struct Inbox {
    subject: Subject,
    replies: Subscription,
}

impl Inbox {
    /// Wraps a transport's source of replies.
    #[must_use]
    pub fn new(subject: Subject, source: impl Source + 'static) -> Self {
        Self {
            subject,
            replies: Subscription::new(source),
        }
    }

    /// The inbox of a call in memory.
    pub(crate) const fn in_memory(subject: Subject, source: InboxSource) -> Self {
        let replies = Subscription(Ends::Inbox(source));
        Self { subject, replies }
    }

    /// Takes the inbox apart into its subject and its replies.
    #[must_use]
    pub fn into_parts(self) -> (Subject, Subscription) {
        (self.subject, self.replies)
    }

    /// The subject to put into a request's `reply_to`.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Receives the next reply; `None` when the transport closed. Cancel-safe.
    pub async fn receive(&mut self) -> Option<Received> {
        self.replies.receive().await
    }

    /// Polls for replies; see [`Source::poll_receive`].
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        self.replies.poll_receive(cx, batch, max)
    }
}
