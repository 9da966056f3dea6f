//! Messages that the server takes in one step.

use std::collections::VecDeque;
use std::sync::Arc;

use agentbus_protocol::Subject;
use agentbus_transport::clock::millis;
use agentbus_transport::{Durability, Receipt, TransportError};
use bytes::Bytes;
use redis::{Cmd, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::commands::carrier;
use crate::desk::Desk;
use crate::limits;
use crate::scripts::PUBLISH;

pub(crate) type Outcome = Result<Receipt, TransportError>;

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: Subject,
    pub(crate) channel: String,
    pub(crate) data: Bytes,
    /// The key under which it is published once; empty for none.
    pub(crate) key: String,
    /// Whether the log keeps it.
    pub(crate) logged: bool,
    /// Whether somebody must listen.
    pub(crate) required: bool,
    pub(crate) done: oneshot::Sender<Outcome>,
}

/// Messages that share a number and an answer.
#[derive(Debug)]
pub(crate) struct Batch {
    /// By which the server knows it again.
    number: u64,
    messages: Vec<Outgoing>,
    /// When it is given up.
    pub(crate) deadline: Instant,
    /// How often the routes had changed under it.
    stale: usize,
    /// Whether the script was made known to this server for it.
    pub(crate) taught: bool,
}

impl Batch {
    /// Takes as many messages from the front as one batch holds.
    pub(crate) fn gather(number: u64, waiting: &mut VecDeque<Outgoing>) -> Self {
        let mut bytes = 0;
        let mut messages = Vec::with_capacity(waiting.len().min(limits::BATCH));
        while messages.len() < limits::BATCH
            && let Some(next) = waiting.pop_front_if(|next| {
                messages.is_empty() || bytes + next.data.len() <= limits::BATCH_BYTES
            })
        {
            bytes += next.data.len();
            messages.push(next);
        }
        Self {
            number,
            messages,
            deadline: Instant::now() + limits::PUBLISH_TIMEOUT,
            stale: 0,
            taught: false,
        }
    }

    /// The command that publishes it. One that `follows` may be taken only behind the batch before
    /// it, which is on its way, too.
    pub(crate) fn call(&self, desk: &Desk, follows: bool) -> Cmd {
        let routes = desk.routes();
        let logged = self.messages.iter().filter(|message| message.logged);
        let mut cmd = PUBLISH.call();
        cmd.arg(desk.names.base())
            .arg(&desk.client)
            .arg(self.number);
        cmd.arg(u8::from(follows)).arg(&routes.version);
        cmd.arg(desk.settings.log).arg(limits::QUEUE_ENTRIES);
        cmd.arg(u8::from(desk.settings.amb))
            .arg(millis(limits::KEY_WINDOW));
        cmd.arg(self.messages.len()).arg(logged.count());
        for message in &self.messages {
            message.describe(&mut cmd, &routes.of(message.subject.as_str()));
        }
        cmd
    }

    /// Notes that the routes had changed. Returns whether it may be tried with the new ones.
    pub(crate) const fn outdate(&mut self) -> bool {
        self.stale += 1;
        self.stale <= limits::STALE_ROUTES
    }

    /// Tells everybody what became of their message.
    pub(crate) fn settle(self, desk: &Desk, answer: Value) {
        let answers = redis::from_redis_value::<Vec<u64>>(answer).unwrap_or_default();
        if answers.len() != 3 * self.messages.len() {
            let error = carrier("the server's answer to a publish cannot be read");
            return self.fail(&error);
        }
        for (message, answer) in self.messages.into_iter().zip(answers.chunks_exact(3)) {
            let outcome = message.outcome(desk.durability, answer);
            // Whoever gave up waiting wants no answer.
            let _ = message.done.send(outcome);
        }
    }

    /// Tells everybody that their message failed.
    pub(crate) fn fail(self, error: &TransportError) {
        for message in self.messages {
            let _ = message.done.send(Err(error.clone()));
        }
    }
}

impl Outgoing {
    /// Adds what the script is told of a message.
    fn describe(&self, cmd: &mut Cmd, queues: &[Arc<str>]) {
        let more = self.required || !self.key.is_empty() || !queues.is_empty();
        cmd.arg(self.asks(more))
            .arg(&self.channel)
            .arg(&self.data[..]);
        if more {
            cmd.arg(&self.key).arg(queues.len());
            for queue in queues {
                cmd.arg(&**queue);
            }
        }
    }

    /// What the script is asked for, in its letters.
    const fn asks(&self, more: bool) -> &'static str {
        match (self.logged, self.required, more) {
            (true, false, false) => "l",
            (false, false, false) => "",
            (true, true, _) => "lrm",
            (true, false, true) => "lm",
            (false, true, _) => "rm",
            (false, false, true) => "m",
        }
    }

    fn outcome(&self, durability: Durability, answer: &[u64]) -> Outcome {
        let (number, heard, code) = (answer[0], answer[1], answer[2]);
        let subject = || self.subject.clone();
        // A reply that no connection hears, and a request that nobody serves.
        let unheard = self.subject.is_inbox() && heard == 0;
        match code {
            2 => return Err(TransportError::NoResponder { subject: subject() }),
            3 => {
                return Err(TransportError::QueueFull {
                    subject: subject(),
                    capacity: usize::try_from(limits::QUEUE_ENTRIES).unwrap_or(usize::MAX),
                });
            }
            _ if unheard => return Err(TransportError::NoResponder { subject: subject() }),
            _ => {}
        }
        let receipt = if self.logged {
            Receipt::logged(durability, None, number)
        } else {
            Receipt::new(Durability::Memory, None)
        };
        Ok(if code == 1 {
            receipt.repeated()
        } else {
            receipt
        })
    }
}
