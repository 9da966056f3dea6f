//! From a publisher into the queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentbus_protocol::Subject;

use super::confirm::Confirm;
use super::mailbox::Posted;
use super::queue::{Entry, Pushed, Queue};
use super::registry::{Group, Route};
use super::{Broker, inbox};
use crate::{Completion, Durability, Message, PublishOptions, Receipt, TransportError};

type Outcome = Result<Receipt, TransportError>;

pub(super) fn publish(
    broker: &Arc<Broker>,
    message: Arc<Message>,
    options: PublishOptions,
) -> Completion<Outcome> {
    if broker.is_closed() {
        return Completion::ready(Err(TransportError::Closed));
    }
    if let Err(lacking) = super::CAPABILITIES.check_publish(&options) {
        return Completion::ready(Err(lacking));
    }
    if message.is_expired() {
        let subject = message.subject.clone();
        return Completion::ready(Err(TransportError::Expired { subject }));
    }
    if message.subject.is_inbox() {
        return publish_reply(broker, message);
    }
    broker.published.fetch_add(1, Ordering::Relaxed);
    let known = broker.registry.route(&message.subject);
    let handed_out = hand_out(broker, &known.route, message, options);
    known.remember();
    handed_out
}

fn hand_out(
    broker: &Arc<Broker>,
    route: &Route,
    message: Arc<Message>,
    options: PublishOptions,
) -> Completion<Outcome> {
    // In this order: a group that is asked for its next queue has given a turn.
    if !options.confirm
        && let Some(queue) = route.only()
    {
        return publish_to_one(broker, queue, message, options);
    }
    let mut round = Round::new(&message.subject, options, route.receivers());
    let groups = route.groups.iter().map(Group::next);
    for queue in route.all.iter().chain(groups) {
        round.push(queue, Arc::clone(&message));
    }
    round.finish(broker)
}

/// The usual case: the message is handed over to its one receiver, and shared with nobody.
fn publish_to_one(
    broker: &Arc<Broker>,
    queue: &Arc<Queue>,
    message: Arc<Message>,
    options: PublishOptions,
) -> Completion<Outcome> {
    let pushed = queue.push(Entry::new(message, None, true));
    let subject = match &pushed {
        Pushed::Taken => {
            return Completion::ready(Ok(Receipt::new(Durability::Memory, Some(1))));
        }
        Pushed::Full(entry) | Pushed::Refused(entry) | Pushed::Gone(entry) => {
            &entry.message.subject
        }
    };
    let mut round = Round::new(subject, options, 1);
    round.note(queue, pushed);
    round.finish(broker)
}

/// A reply goes to one inbox or to nobody, and the replier is told which.
fn publish_reply(broker: &Arc<Broker>, reply: Arc<Message>) -> Completion<Outcome> {
    let Some(token) = inbox::token(reply.subject.as_str()) else {
        return Completion::ready(replied(Posted::Gone(reply)));
    };
    match broker.common.inboxes.post(token, reply) {
        Posted::Full(reply, room) => {
            let common = Arc::clone(&broker.common);
            Completion::waiting(async move {
                replied(common.inboxes.post_when_room(token, reply, room).await)
            })
        }
        posted => Completion::ready(replied(posted)),
    }
}

fn replied(posted: Posted) -> Outcome {
    match posted {
        Posted::Taken => Ok(Receipt::new(Durability::Memory, Some(1))),
        Posted::Full(reply, _) | Posted::Gone(reply) => Err(TransportError::NoResponder {
            subject: reply.subject.clone(),
        }),
    }
}

/// One message on its round through the queues of its receivers.
struct Round {
    subject: Subject,
    options: PublishOptions,
    receivers: usize,
    confirm: Option<Arc<Confirm>>,
    taken: usize,
    /// Queues without room; the publisher waits for them when all others have the message.
    full: Vec<(Arc<Queue>, Entry)>,
    /// The capacity of a queue that refused.
    refused: Option<usize>,
}

impl Round {
    fn new(subject: &Subject, options: PublishOptions, receivers: usize) -> Self {
        let confirm = options.confirm.then(|| Arc::new(Confirm::new(receivers)));
        Self {
            subject: subject.clone(),
            options,
            receivers,
            confirm,
            taken: 0,
            full: Vec::new(),
            refused: None,
        }
    }

    fn push(&mut self, queue: &Arc<Queue>, message: Arc<Message>) {
        let sole = self.receivers == 1;
        let pushed = queue.push(Entry::new(message, self.confirm.clone(), sole));
        self.note(queue, pushed);
    }

    fn note(&mut self, queue: &Arc<Queue>, pushed: Pushed) {
        match pushed {
            Pushed::Taken => self.taken += 1,
            Pushed::Full(entry) => self.full.push((Arc::clone(queue), entry)),
            Pushed::Refused(_) => self.refused = Some(queue.options.capacity),
            Pushed::Gone(_) => {}
        }
    }

    fn finish(self, broker: &Arc<Broker>) -> Completion<Outcome> {
        if self.full.is_empty() && self.confirm.is_none() {
            return Completion::ready(self.outcome());
        }
        Completion::waiting(self.wait(Arc::clone(broker)))
    }

    async fn wait(mut self, broker: Arc<Broker>) -> Outcome {
        for (queue, entry) in std::mem::take(&mut self.full) {
            let pushed = queue.push_when_room(entry).await;
            if matches!(pushed, Pushed::Gone(_)) && broker.is_closed() {
                return Err(TransportError::Closed);
            }
            self.note(&queue, pushed);
        }
        let receipt = self.outcome()?;
        if let Some(confirm) = &self.confirm {
            confirm.outcome(&self.subject).await?;
        }
        Ok(receipt)
    }

    fn outcome(&self) -> Outcome {
        let subject = || self.subject.clone();
        if let Some(capacity) = self.refused {
            return Err(TransportError::QueueFull {
                subject: subject(),
                capacity,
            });
        }
        let wanted = self.options.require_responder || self.options.confirm;
        if self.taken == 0 && wanted {
            return Err(TransportError::NoResponder { subject: subject() });
        }
        Ok(Receipt::new(Durability::Memory, Some(self.taken)))
    }
}
