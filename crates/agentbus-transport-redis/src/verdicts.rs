//! What becomes of a delivery.
//!
//! Every verdict is carried out whether or not somebody waits for it, and is tried again over
//! reconnects: an ack that the server has not heard is no ack.

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::clock::millis;
use agentbus_transport::dead_letter::{self, Death};
use agentbus_transport::{
    Completion, Message, PublishOptions, Settle, TransportError, Verdict, limits as common,
};
use redis::{Pipeline, Value};
use tokio::sync::oneshot;

use crate::commands::Order;
use crate::member::{Member, Taken};
use crate::scripts::{self, EXTEND, NAK, Step, WAKE};
use crate::{limits, publish};

type Settled = Result<(), TransportError>;

impl Settle for Member {
    fn settle(self: Arc<Self>, token: u128, verdict: Verdict) -> Completion<Settled> {
        let ends = !matches!(verdict, Verdict::Extend { .. });
        let Some(held) = self.held(token, ends) else {
            return Completion::ready(Ok(()));
        };
        let (done, outcome) = oneshot::channel();
        let member = Arc::clone(&self);
        self.link.spawn_lasting(async move {
            let entry = held.entry.clone();
            let outcome = member.carry_out(held, verdict).await;
            member.settled(&entry);
            // Whoever dropped the delivery does not wait.
            let _ = done.send(outcome);
        });
        Completion::waiting(async move { outcome.await.unwrap_or(Err(TransportError::Closed)) })
    }
}

impl Member {
    async fn carry_out(self: &Arc<Self>, held: Taken, verdict: Verdict) -> Settled {
        match verdict {
            Verdict::Ack | Verdict::Reject => self.finish(&[held.entry]).await,
            Verdict::Nak { delay, .. } => {
                let given = self.give_back(&held, delay).await;
                if given.is_err()
                    && let Some(inbox) = self.asker(&held.message)
                {
                    self.lose(&held.message, inbox).await;
                }
                given
            }
            Verdict::Abandoned if self.is_durable() => {
                self.give_back(&held, limits::ABANDONED_DELAY).await
            }
            Verdict::Abandoned => {
                if let Some(inbox) = self.asker(&held.message) {
                    self.lose(&held.message, inbox).await;
                }
                self.finish(&[held.entry]).await
            }
            // Without a lease there is nothing to extend.
            Verdict::Extend { .. } if self.lease.is_none() => Ok(()),
            Verdict::Extend { lease } => {
                let lease = millis(lease.min(common::LEASE_MAX));
                self.change(&EXTEND, &held, lease).await
            }
        }
    }

    /// Settles entries for good.
    pub(crate) async fn finish(&self, entries: &[String]) -> Settled {
        match entries {
            [] => Ok(()),
            _ => self.run(self.ending(entries)).await,
        }
    }

    /// Settles entries for good of which some may only have woken this member.
    pub(crate) async fn finish_woken(&self, entries: &[String]) -> Settled {
        if entries.is_empty() {
            return Ok(());
        }
        let mut all = self.ending(entries);
        let wakes = self.link.names().key("wakes", &self.plan.queue);
        all.cmd("SREM").arg(wakes).arg(entries);
        self.run(all).await
    }

    /// The end of entries, as one step.
    fn ending(&self, entries: &[String]) -> Pipeline {
        let (names, queue) = (self.link.names(), &self.plan.queue);
        let stream = names.key("queue", queue);
        let mut all = redis::pipe();
        all.atomic();
        all.cmd("XACK").arg(&stream).arg("bus").arg(entries);
        all.cmd("XDEL").arg(&stream).arg(entries);
        all.cmd("ZREM").arg(names.key("due", queue)).arg(entries);
        all.cmd("ZREM").arg(names.key("hold", queue)).arg(entries);
        all
    }

    async fn run(&self, all: Pipeline) -> Settled {
        let commands = self.link.commands();
        let done = commands.patiently(Order::Many(all), limits::SETTLE_TIMEOUT);
        done.await.map(drop)
    }

    /// Settles an entry for which nobody waits.
    pub(crate) fn forget(self: &Arc<Self>, entry: String) {
        let member = Arc::clone(self);
        self.link.spawn_lasting(async move {
            if let Err(error) = member.finish(&[entry]).await {
                tracing::warn!(%error, "an expired message could not be removed");
            }
        });
    }

    async fn give_back(self: &Arc<Self>, held: &Taken, delay: Duration) -> Settled {
        let delay = delay.min(common::NAK_DELAY_MAX);
        self.change(&NAK, held, millis(delay)).await?;
        if !delay.is_zero() {
            self.wake_after(delay);
        }
        Ok(())
    }

    /// Sees to it that somebody looks when the delay is over. Should this process end before, the
    /// others look now and then anyway.
    fn wake_after(self: &Arc<Self>, delay: Duration) {
        let (link, queue) = (Arc::clone(&self.link), self.plan.queue.clone());
        self.link.spawn(async move {
            tokio::select! {
                () = link.ending().cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            let desk = link.desk();
            let fill = |cmd: &mut redis::Cmd| {
                cmd.arg(desk.names.base()).arg(&queue);
            };
            if let Err(error) = desk.commands.script(&WAKE, fill).await {
                tracing::debug!(%error, "nobody was woken for a redelivery");
            }
        });
    }

    /// Changes a delivery that must still be this member's.
    async fn change(&self, step: &'static Step, held: &Taken, value: u64) -> Settled {
        let desk = self.link.desk();
        let fill = |cmd: &mut redis::Cmd| {
            cmd.arg(desk.names.base())
                .arg(&self.plan.queue)
                .arg(&self.plan.consumer);
            cmd.arg(&held.entry).arg(held.attempt).arg(value);
        };
        match desk.commands.script(step, fill).await? {
            Value::Int(1) => Ok(()),
            _ => Err(TransportError::LeaseEnded {
                subject: held.message.subject.clone(),
            }),
        }
    }

    /// Makes a dead letter of a message that has used up its attempts.
    pub(crate) async fn bury(&self, dead: &Taken, cause: &str) -> Settled {
        let attempts = dead.attempt - 1;
        if let Some(letter) = self.letter(&dead.message, attempts, cause) {
            // Whoever finds the same dead message again, because this process ends here, writes
            // the letter under the same key.
            let options = PublishOptions {
                idempotency_key: Some(self.grave(&dead.entry).into()),
                ..PublishOptions::default()
            };
            publish::publish(&self.link, &letter, &options).await?;
        }
        self.finish(std::slice::from_ref(&dead.entry)).await
    }

    /// The key under which a letter is written once. Names of queues may be longer than a key, so
    /// it holds their hash.
    fn grave(&self, entry: &str) -> String {
        format!("dlq {entry} {}", scripts::hash(&self.plan.queue))
    }

    /// The letter of a dead message. One that was a letter itself is only reported.
    fn letter(&self, message: &Message, attempts: u32, cause: &str) -> Option<Message> {
        let (subject, prefix) = (&message.subject, self.dead_letters.as_str());
        let error = match cause {
            "given back" => "the message was given back too often",
            "lease" => "nobody settled the message before its lease ended",
            _ => "the clients that had the message ended before they settled it",
        };
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
