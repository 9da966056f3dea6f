//! What becomes of a delivery.
//!
//! Every verdict is carried out whether or not somebody waits for it: an ack that the broker has
//! not taken is no ack.

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::clock::millis;
use agentbus_transport::dead_letter::{self, Death};
use agentbus_transport::{
    Completion, Message, PublishOptions, Settle, TransportError, Verdict, limits as common,
};
use tokio::sync::oneshot;

use crate::ledger::{Cause, Step};
use crate::member::{Member, Taken};
use crate::{limits, publish};

type Settled = Result<(), TransportError>;

impl Settle for Member {
    fn settle(self: Arc<Self>, token: u128, verdict: Verdict) -> Completion<Settled> {
        let ends = !matches!(verdict, Verdict::Extend { .. });
        let Some(held) = self.held(token, ends) else {
            return Completion::ready(Ok(()));
        };
        let step = match self.step(&held, &verdict) {
            Ok(Some(step)) => step,
            Ok(None) => return Completion::ready(Ok(())),
            Err(error) => return Completion::ready(Err(error)),
        };
        if matches!(step, Step::Settle { .. }) {
            self.finished(held.number);
        }
        let (done, outcome) = oneshot::channel();
        let member = Arc::clone(&self);
        self.link.spawn_lasting(async move {
            // Whoever dropped the delivery does not wait.
            let _ = done.send(member.note(step).await);
        });
        Completion::waiting(async move { outcome.await.unwrap_or(Err(TransportError::Closed)) })
    }
}

impl Member {
    /// What a verdict means to the ledger.
    fn step(&self, held: &Taken, verdict: &Verdict) -> Result<Option<Step>, TransportError> {
        let (number, attempt) = (held.number, held.attempt);
        let release = |delay: Duration| Step::Release {
            member: self.id.clone(),
            of: number,
            attempt,
            delay: millis(delay),
        };
        let ended = || TransportError::LeaseEnded {
            subject: held.message.subject.clone(),
        };
        Ok(match verdict {
            // Whoever has done the work has done it, even if it took too long.
            Verdict::Ack | Verdict::Reject => Some(Step::Settle { of: number }),
            Verdict::Abandoned if held.lost => None,
            Verdict::Abandoned => Some(release(limits::ABANDONED_DELAY)),
            Verdict::Nak { .. } | Verdict::Extend { .. } if held.lost => return Err(ended()),
            Verdict::Nak { delay, .. } => Some(release((*delay).min(common::NAK_DELAY_MAX))),
            // Without a lease there is nothing to extend.
            Verdict::Extend { .. } if self.plan.lease.is_none() => None,
            Verdict::Extend { lease } => Some(Step::Extend {
                member: self.id.clone(),
                of: number,
                attempt,
                lease: millis((*lease).min(common::LEASE_MAX)),
            }),
        })
    }

    /// Writes a step down; a replay has nobody to agree with.
    pub(crate) async fn note(self: &Arc<Self>, step: Step) -> Settled {
        let Some(name) = &self.plan.name else {
            let dead = self.apply(0, self.link.broker_time(), step);
            dead.into_iter()
                .for_each(|(dead, cause)| self.bury(dead, cause));
            return Ok(());
        };
        // Names, numbers and texts always have a JSON form.
        let value = serde_json::to_vec(&step).unwrap_or_default();
        let (topic, partition) = (&self.link.topics.work, partition_of(name));
        self.link
            .write(topic, partition, name, Some(&value))
            .await
            .map(drop)
    }

    /// Writes a claim down, in the order of the calls: what follows it must not overtake it.
    pub(crate) fn claim(self: &Arc<Self>, step: Step) {
        let Some(name) = &self.plan.name else {
            let dead = self.apply(0, self.link.broker_time(), step);
            dead.into_iter()
                .for_each(|(dead, cause)| self.bury(dead, cause));
            return;
        };
        let value = serde_json::to_vec(&step).unwrap_or_default();
        let (topic, partition) = (&self.link.topics.work, partition_of(name));
        let sent = self.link.send(topic, partition, name, &value);
        let member = Arc::clone(self);
        self.link.spawn_lasting(async move {
            let heard = match sent {
                Ok(sent) => matches!(sent.await, Ok(Ok(_))),
                Err(_) => false,
            };
            if !heard {
                member.unask(&step);
            }
        });
    }

    /// Settles an event for which nobody waits.
    pub(crate) fn forget(self: &Arc<Self>, number: i64) {
        let member = Arc::clone(self);
        self.link.spawn_lasting(async move {
            if let Err(error) = member.note(Step::Settle { of: number }).await {
                tracing::warn!(%error, "an expired message could not be settled");
            }
        });
    }

    /// Makes a dead letter of a message that has used up its attempts. Should this process end
    /// between the letter and the settling of the message, whoever claims it next writes the
    /// letter again: rather twice than never.
    pub(crate) fn bury(self: &Arc<Self>, dead: Taken, cause: Cause) {
        let member = Arc::clone(self);
        self.link.spawn_lasting(async move {
            let buried = async {
                if let Some(letter) = member.letter(&dead, cause) {
                    let options = PublishOptions::default();
                    publish::publish(&member.link, &Arc::new(letter), &options).await?;
                }
                member.note(Step::Settle { of: dead.number }).await
            };
            if let Err(error) = buried.await {
                tracing::warn!(%error, "a dead letter could not be written");
            }
        });
    }

    /// The letter of a dead message. One that was a letter itself is only reported.
    fn letter(&self, dead: &Taken, cause: Cause) -> Option<Message> {
        let (subject, attempts) = (&dead.message.subject, dead.attempt - 1);
        let error = match cause {
            Cause::GivenBack => "the message was given back too often",
            Cause::LeaseEnded => "nobody settled the message before its lease ended",
            Cause::MemberGone => "the clients that had the message ended before they settled it",
        };
        let death = Death {
            reason: "max_retries",
            attempts,
            first_error: error,
            last_error: error,
        };
        let letter = dead_letter::addressed(&dead.message, &self.plan.dead_letters, death);
        if letter.is_none() {
            tracing::error!(%subject, attempts, "a dead letter could not be handled either and is given up");
        }
        letter
    }
}

/// The partition on which the ledger of a name is written; the same in every version, because the
/// ledger outlives them.
pub(crate) fn partition_of(name: &str) -> i32 {
    // FNV-1a, which is defined by these two numbers.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash % limits::WORK_PARTITIONS.unsigned_abs()).cast_signed()
}
