//! The messages that every transport here carries, and how they are taken.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{
    Envelope, EventId, EventType, Pattern, Payload, Stamp, Subject, Timestamp,
};
use agentbus_transport::{
    Message, PublishOptions, Received, Start, Subscribe, Subscription, Transport,
};

/// Where the messages go.
pub(crate) const SUBJECT: &str = "acp.v1.events.bench";

/// Bytes of a payload; its envelope has about 300.
const PAYLOAD: usize = 100;

pub(crate) fn message(n: u64) -> Message {
    let stamp = Stamp {
        event_id: EventId::v7(n, &[0; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let mut envelope = Envelope::new(stamp, EventType::from("bench.event"));
    envelope.from = "bench".into();
    envelope.payload = Some(Payload::text(&"x".repeat(PAYLOAD)));
    Message::new(Subject::parse(SUBJECT).unwrap(), envelope)
}

pub(crate) async fn publish(transport: &dyn Transport, n: u64) {
    let sent = transport.publish(Arc::new(message(n)), PublishOptions::default());
    sent.await.unwrap();
}

/// A subscription to all of them from the beginning.
pub(crate) fn all(durable: Option<&str>) -> Subscribe {
    let mut request = Subscribe::new(Pattern::parse(SUBJECT).unwrap());
    request.start = Start::Beginning;
    request.durable = durable.map(Into::into);
    request
}

/// Takes messages until `count` were settled, each after `failures` failed attempts.
pub(crate) async fn settle(mut all: Subscription, count: u64, failures: u32) -> u64 {
    let (mut settled, mut handed) = (0, 0);
    let mut batch = Vec::new();
    while settled < count {
        all.receive_many(&mut batch, 64).await;
        for received in batch.drain(..) {
            let Received::Live(delivery) = received else {
                continue;
            };
            handed += 1;
            if delivery.attempt() <= failures {
                drop(delivery.nak(Duration::ZERO));
            } else {
                drop(delivery.ack());
                settled += 1;
            }
        }
    }
    handed
}
