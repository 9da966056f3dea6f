//! Publishing.

use std::sync::Arc;

use agentbus_protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus_transport::remote::amb::{self, Extra};
use agentbus_transport::{
    Completion, Durability, Message, PublishOptions, Receipt, TransportError,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::FutureRecord;
use rdkafka::producer::future_producer::DeliveryFuture;
use tokio::time::sleep;

use crate::broker::{NAME, doubtful};
use crate::inbox::home_of;
use crate::lanes::Lane;
use crate::limits;
use crate::link::{Link, is_full};
use crate::record;

pub(crate) type Outcome = Result<Receipt, TransportError>;

/// Where an accepted event is: in the memory of a machine's operating system, which Kafka leaves to
/// write it down, and of as many machines as the topic has replicas in step.
pub(crate) const EVENTS: Durability = Durability::Os;

/// A record that the library has not taken yet.
struct Outgoing {
    way: Way,
    key: String,
    data: Vec<u8>,
    headers: Option<OwnedHeaders>,
}

/// A record that the library has taken, with a copy of what it says.
struct Sent {
    way: Way,
    bytes: usize,
    outcome: DeliveryFuture,
}

/// Where a record goes.
#[derive(Clone, Copy)]
enum Way {
    Lane(Lane),
    /// The partition of an inbox.
    Reply(i32),
}

/// Publishes a message. It is on its way when this returns, in the order of the calls.
pub(crate) fn publish(
    link: &Arc<Link>,
    message: &Arc<Message>,
    options: &PublishOptions,
) -> Completion<Outcome> {
    if link.is_closed() {
        return Completion::ready(Err(TransportError::Closed));
    }
    match pack(link, message, options) {
        Ok(outgoing) => dispatch(link, outgoing),
        // Before anybody is told that nobody listens, we look again: somebody may have begun to a
        // moment ago, of whom we have not read.
        Err(TransportError::NoResponder { subject }) if !subject.is_inbox() => {
            let (link, message, options) = (Arc::clone(link), Arc::clone(message), options.clone());
            Completion::waiting(async move {
                link.catch_up().await?;
                dispatch(&link, pack(&link, &message, &options)?).await
            })
        }
        Err(error) => Completion::ready(Err(error)),
    }
}

fn dispatch(link: &Arc<Link>, mut outgoing: Outgoing) -> Completion<Outcome> {
    link.count_publish();
    if !link.full.is_anyone_waiting() {
        match outgoing.send(link) {
            Ok(sent) => return Completion::waiting(sent.settle(Arc::clone(link))),
            Err(error) if is_full(&error) => {}
            Err(error) => return Completion::ready(Err(refusal(&error, outgoing.data.len()))),
        }
    }
    let (link, place) = (Arc::clone(link), link.full.line_up());
    Completion::waiting(async move {
        let sent = outgoing.send_patiently(&link).await?;
        drop(place);
        sent.settle(link).await
    })
}

fn pack(
    link: &Link,
    message: &Message,
    options: &PublishOptions,
) -> Result<Outgoing, TransportError> {
    let subject = message.subject.clone();
    if message.is_expired() {
        return Err(TransportError::Expired { subject });
    }
    let outgoing = if subject.is_inbox() {
        pack_reply(link, message)?
    } else {
        pack_message(link, message, options)?
    };
    if outgoing.data.len() > ENVELOPE_BYTES_MAX {
        return Err(TransportError::TooLarge {
            transport: NAME,
            bytes: outgoing.data.len(),
            limit: ENVELOPE_BYTES_MAX,
        });
    }
    Ok(outgoing)
}

fn pack_reply(link: &Link, message: &Message) -> Result<Outgoing, TransportError> {
    let subject = message.subject.clone();
    let home = home_of(subject.as_str()).filter(|_| !link.inbox.is_gone(subject.as_str()));
    let Some((client, partition)) = home else {
        return Err(TransportError::NoResponder { subject });
    };
    let key = client.to_owned();
    let extra = Extra {
        notice: None,
        // After the last reply there is nothing left to stop.
        replier: (!message.envelope.is_final)
            .then(|| link.inbox.replier(subject.as_str()))
            .flatten(),
    };
    let data = amb::encode(message, &extra);
    Ok(Outgoing {
        way: Way::Reply(partition),
        key,
        data,
        headers: None,
    })
}

fn pack_message(
    link: &Link,
    message: &Message,
    options: &PublishOptions,
) -> Result<Outgoing, TransportError> {
    let subject = message.subject.clone();
    let lane = link.lanes.lane_of(message);
    let (route, seen) = link.table.route(subject.as_str());
    if options.require_responder && !route.has_receiver(lane == Lane::Events) {
        return Err(TransportError::NoResponder { subject });
    }
    let dealt = link.table.deal(&route);
    if lane == Lane::Calls {
        link.inbox.asked(&message.envelope.reply_to, &dealt);
    }
    let key = match lane {
        // As AMB writes it.
        Lane::Amb(_) => message.envelope.event_id.with_str(ToOwned::to_owned),
        Lane::Events | Lane::Calls => subject.as_str().to_owned(),
    };
    Ok(Outgoing {
        way: Way::Lane(lane),
        key,
        data: amb::encode(message, &Extra::default()),
        headers: Some(record::headers(&dealt, seen)),
    })
}

impl Outgoing {
    /// Hands the record to the library, which keeps the order in which it gets them.
    fn send(&mut self, link: &Link) -> Result<Sent, KafkaError> {
        let (topic, partition) = match self.way {
            // By the key the library chooses among the partitions of a shared topic.
            Way::Lane(lane @ Lane::Amb(_)) => (link.lanes.topic(lane), None),
            // Our own have one. Named, it spares the library a queue and the hash of the key.
            Way::Lane(lane) => (link.lanes.topic(lane), Some(0)),
            Way::Reply(partition) => (&*link.topics.replies, Some(partition)),
        };
        let mut record = FutureRecord::to(topic).key(&self.key).payload(&self.data);
        record.partition = partition;
        record.headers = self.headers.take();
        match link.producer.send_result(record) {
            Ok(outcome) => Ok(Sent {
                way: self.way,
                bytes: self.data.len(),
                outcome,
            }),
            Err((error, back)) => {
                self.headers = back.headers;
                Err(error)
            }
        }
    }

    /// Waits for room in the library's queue.
    async fn send_patiently(&mut self, link: &Link) -> Result<Sent, TransportError> {
        let _first = link.full.turn.lock().await;
        loop {
            match self.send(link) {
                Ok(sent) => return Ok(sent),
                Err(error) if !is_full(&error) => return Err(refusal(&error, self.data.len())),
                Err(_) => sleep(limits::FULL_PAUSE).await,
            }
        }
    }
}

impl Sent {
    async fn settle(self, link: Arc<Link>) -> Outcome {
        let delivered = self.outcome.await.map_err(|_| TransportError::Closed)?;
        let delivered = delivered.map_err(|(error, _)| refusal(&error, self.bytes))?;
        let Way::Lane(lane) = self.way else {
            return Ok(Receipt::new(Durability::Memory, None));
        };
        link.lanes
            .note_written((lane, delivered.partition), delivered.offset + 1);
        let number = u64::try_from(delivered.offset).unwrap_or_default();
        Ok(match lane {
            Lane::Events => Receipt::logged(EVENTS, None, number),
            Lane::Amb(_) => Receipt::new(EVENTS, None),
            Lane::Calls => Receipt::new(Durability::Memory, None),
        })
    }
}

fn refusal(error: &KafkaError, bytes: usize) -> TransportError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => TransportError::TooLarge {
            transport: NAME,
            bytes,
            limit: ENVELOPE_BYTES_MAX,
        },
        _ => doubtful(error),
    }
}
