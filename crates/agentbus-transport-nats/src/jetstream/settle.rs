//! What becomes of a delivery.

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::dead_letter::{self, Death};
use agentbus_transport::{
    Completion, Message, PublishOptions, Settle, TransportError, Verdict, limits as common,
};
use async_nats::jetstream::AckKind;
use async_nats::message::OutboundMessage;
use tokio::sync::oneshot;

use crate::limits;

use super::member::{Held, Member, Taken};
use super::publish;

type Settled = Result<(), TransportError>;

impl Settle for Member {
    fn settle(self: Arc<Self>, token: u128, verdict: Verdict) -> Completion<Settled> {
        if let Verdict::Extend { lease } = verdict {
            return match self.extend(token, lease) {
                Some(Ok(taken)) => self.say(&taken.reply, AckKind::Progress),
                Some(Err(subject)) => {
                    Completion::ready(Err(TransportError::LeaseEnded { subject }))
                }
                None => Completion::ready(Ok(())),
            };
        }
        let Some((held, saying)) = self.end(token) else {
            return Completion::ready(Ok(()));
        };
        let said = match verdict {
            Verdict::Ack => {
                // Whoever has done the work has done it, even if it took too long.
                self.history.acknowledge(held.taken.sequence);
                if held.ended {
                    self.forget(held.taken.sequence);
                }
                self.say(&held.taken.reply, AckKind::Ack)
            }
            Verdict::Reject => {
                self.history.acknowledge(held.taken.sequence);
                self.say(&held.taken.reply, AckKind::Term)
            }
            Verdict::Nak { delay, .. } => self.give_up(&held, delay.min(common::NAK_DELAY_MAX)),
            Verdict::Abandoned if held.ended => Completion::ready(Ok(())),
            _ => self.give_up(&held, limits::ABANDONED_DELAY),
        };
        saying.until(said)
    }
}

impl Member {
    /// Gives a delivery back, or buries its message after the last attempt.
    fn give_up(self: &Arc<Self>, held: &Held, delay: Duration) -> Completion<Settled> {
        if held.ended {
            let subject = held.taken.message.subject.clone();
            return Completion::ready(Err(TransportError::LeaseEnded { subject }));
        }
        if held.taken.attempt < self.attempts_max {
            let delay = (!delay.is_zero()).then_some(delay);
            return self.say(&held.taken.reply, AckKind::Nak(delay));
        }
        let (done, outcome) = oneshot::channel();
        let (member, taken) = (Arc::clone(self), held.taken.clone());
        self.store.link.spawn(async move {
            let buried = member.bury(&taken, "the message was given back too often");
            // Whoever dropped the delivery does not wait.
            let _ = done.send(buried.await);
        });
        Completion::waiting(async move { outcome.await.unwrap_or(Err(TransportError::Closed)) })
    }

    fn say(&self, reply: &async_nats::Subject, kind: AckKind) -> Completion<Settled> {
        self.store.link.send_now(said(reply, kind))
    }

    /// Says it when nobody waits for the outcome.
    pub(super) fn say_soon(&self, reply: &async_nats::Subject, kind: AckKind) {
        self.store.link.send_soon(said(reply, kind));
    }

    /// Writes the letter of a message that has used up its attempts, and settles the message.
    ///
    /// In this order: what is not settled comes again, and whoever gets it then writes the letter
    /// under the same key.
    pub(super) async fn bury(&self, dead: &Taken, error: &str) -> Settled {
        if let Some(letter) = self.letter(dead, error) {
            let consumer = self.plan.name();
            let options = PublishOptions {
                idempotency_key: Some(format!("dlq {consumer} {}", dead.sequence).into()),
                ..PublishOptions::default()
            };
            publish::publish(&self.store, &letter, &options).await?;
        }
        self.history.acknowledge(dead.sequence);
        let term = self.say(&dead.reply, AckKind::Term);
        term.await
    }

    /// The letter of a dead message. One that was a letter itself is only reported.
    fn letter(&self, dead: &Taken, error: &str) -> Option<Message> {
        let (subject, attempts) = (&dead.message.subject, dead.attempt);
        let prefix = self.dead_letters.as_str();
        let death = Death {
            reason: "max_retries",
            attempts,
            first_error: error,
            last_error: error,
        };
        let letter = dead_letter::addressed(&dead.message, prefix, death);
        if letter.is_none() {
            tracing::error!(%subject, attempts, "a dead letter could not be handled either and is given up");
        }
        letter
    }
}

fn said(reply: &async_nats::Subject, kind: AckKind) -> OutboundMessage {
    OutboundMessage {
        subject: reply.clone(),
        reply: None,
        payload: kind.into(),
        headers: None,
    }
}
