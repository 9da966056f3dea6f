//! What becomes of a delivery.
//!
//! The protocol does not answer verdicts. One that was written to a connection which then breaks
//! may not have been heard, and the message comes again with its attempt counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agentbus_transport::dead_letter::{self, Death};
use agentbus_transport::{Completion, Message, PublishOptions, Settle, TransportError, Verdict};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};

use crate::limits;
use crate::member::{Member, Taken};
use crate::publish;

type Settled = Result<(), TransportError>;

impl Settle for Member {
    fn settle(self: Arc<Self>, token: u128, verdict: Verdict) -> Completion<Settled> {
        if matches!(verdict, Verdict::Extend { .. }) {
            // Without a lease there is nothing to extend: the broker waits for who holds it.
            return Completion::ready(Ok(()));
        }
        let Some(taken) = self.let_go(token) else {
            return Completion::ready(Ok(()));
        };
        match verdict {
            Verdict::Ack => at_once(taken, |taken| async move {
                taken
                    .channel
                    .basic_ack(taken.tag, BasicAckOptions::default())
                    .await
            }),
            Verdict::Reject => at_once(taken, |taken| async move {
                taken
                    .channel
                    .basic_reject(taken.tag, BasicRejectOptions::default())
                    .await
            }),
            Verdict::Nak { delay, .. } => self.again(taken, delay),
            Verdict::Abandoned if self.plan.is_durable() => {
                self.again(taken, limits::ABANDONED_DELAY)
            }
            _ => {
                let member = Arc::clone(&self);
                self.link.spawn_lasting(async move {
                    member.lose(&taken.message).await;
                    finish(&taken).await;
                });
                Completion::ready(Ok(()))
            }
        }
    }
}

/// Says a verdict in this very call, so that verdicts are heard in the order in which they were
/// given and nobody has to wait for that.
fn at_once<F>(taken: Taken, say: impl FnOnce(Taken) -> F) -> Completion<Settled>
where
    F: Future<Output = lapin::Result<()>> + Send + 'static,
{
    let subject = taken.message.subject.clone();
    let saying = say(taken);
    let mut saying: Pin<Box<dyn Future<Output = Settled> + Send>> = Box::pin(async move {
        // Its channel is gone, and with it the right to decide.
        let too_late = |_| TransportError::LeaseEnded { subject };
        saying.await.map_err(too_late)
    });
    match saying
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(outcome) => Completion::ready(outcome),
        Poll::Pending => Completion::Waiting(saying),
    }
}

/// Settles a message for good. One that cannot be comes again, which whoever gets it can tell.
pub(crate) async fn finish(taken: &Taken) {
    let acked = taken
        .channel
        .basic_ack(taken.tag, BasicAckOptions::default());
    if let Err(error) = acked.await {
        tracing::debug!(%error, "a message could not be settled");
    }
}

/// Refuses a message for good; the queue of a durable name passes it on to its dead-letter
/// exchange.
pub(crate) async fn refuse(channel: &Channel, tag: u64) {
    let refused = channel.basic_reject(tag, BasicRejectOptions::default());
    if let Err(error) = refused.await {
        tracing::debug!(%error, "a message could not be refused");
    }
}

/// Gives a message back to its queue.
pub(crate) async fn give_back(taken: &Taken) {
    if let Err(error) = requeue(taken).await {
        tracing::debug!(%error, "a message could not be given back");
    }
}

async fn requeue(taken: &Taken) -> lapin::Result<()> {
    let options = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    taken.channel.basic_nack(taken.tag, options).await
}

impl Member {
    /// Has a message come again after a delay, over which this member keeps it: the broker has no
    /// delays, and what waits in a second queue is not safe on its way back.
    fn again(self: Arc<Self>, taken: Taken, delay: Duration) -> Completion<Settled> {
        if !taken.channel.status().connected() {
            let subject = taken.message.subject.clone();
            return Completion::ready(Err(TransportError::LeaseEnded { subject }));
        }
        let delay = delay.min(limits::NAK_DELAY_MAX);
        if delay.is_zero() && self.plan.is_durable() {
            return at_once(taken, |taken| async move { requeue(&taken).await });
        }
        let member = Arc::clone(&self);
        self.link.spawn_lasting(async move {
            if !delay.is_zero() {
                tokio::select! {
                    () = member.link.ending().cancelled() => {}
                    () = tokio::time::sleep(delay) => {}
                }
            }
            member.retry(taken).await;
        });
        Completion::ready(Ok(()))
    }

    /// Has a message come again now. The queue of a group does not count attempts, so this member
    /// keeps the message and counts; it is given to somebody else only if this member ends.
    async fn retry(self: &Arc<Self>, mut taken: Taken) {
        if self.plan.is_durable() || self.dropped.is_cancelled() {
            return give_back(&taken).await;
        }
        taken.attempt = taken.attempt.saturating_add(1);
        if taken.attempt > self.attempts_max {
            return self.bury_or_retry(taken).await;
        }
        self.put_front(taken);
    }

    /// Settles a message that ran out before anybody looked at it.
    pub(crate) fn forget_expired(self: &Arc<Self>, taken: Taken) {
        self.link.spawn_lasting(async move { finish(&taken).await });
    }

    /// Makes a dead letter of a message that has used up its attempts. One that cannot be written
    /// leaves the message where it is, to be found again.
    pub(crate) async fn bury_or_retry(self: &Arc<Self>, dead: Taken) {
        if let Err(error) = self.bury(&dead).await {
            tracing::error!(%error, "a dead letter could not be written; it will be tried again");
            tokio::time::sleep(limits::ABANDONED_DELAY).await;
            return give_back(&dead).await;
        }
        self.lose(&dead.message).await;
        finish(&dead).await;
    }

    async fn bury(&self, dead: &Taken) -> Settled {
        // A group that asked for no limit keeps no letters.
        if self.plan.is_group() {
            return Ok(());
        }
        let Some(letter) = self.letter(&dead.message, dead.attempt - 1) else {
            return Ok(());
        };
        publish::publish(&self.link, &letter, &PublishOptions::default())
            .await
            .map(drop)
    }

    /// The letter of a dead message. One that was a letter itself is only reported.
    fn letter(&self, message: &Message, attempts: u32) -> Option<Message> {
        let (subject, prefix) = (&message.subject, self.dead_letters.as_str());
        let error = "the message was given back too often, or whoever had it ended";
        let death = Death {
            reason: "max_retries",
            attempts,
            first_error: error,
            last_error: error,
        };
        let letter = dead_letter::addressed(message, prefix, death);
        if letter.is_none() {
            tracing::error!(%subject, attempts, "a dead letter could not be handled either and is given up");
        }
        letter
    }
}
