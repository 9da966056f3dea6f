//! Messages that are told apart by a number.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{
    Envelope, EventId, EventType, Pattern, Payload, Stamp, Subject, Timestamp,
};
use agentbus_transport::{Delivery, Message, Received, Subscribe, Subscription};

/// Longest time that anything may take; a server's restart is a part of it.
const GUARD: Duration = Duration::from_secs(180);

pub(crate) async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(GUARD, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {GUARD:?}"),
    }
}

pub(crate) fn to(subject: Subject, n: u64) -> Arc<Message> {
    let stamp = Stamp {
        event_id: EventId::v7(n, &[0; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let mut envelope = Envelope::new(stamp, EventType::from("failure.case"));
    envelope.payload = Some(Payload::json(&n).unwrap());
    Arc::new(Message::new(subject, envelope))
}

pub(crate) fn message(tail: &str, n: u64) -> Arc<Message> {
    to(Subject::parse(&format!("acp.v1.events.{tail}")).unwrap(), n)
}

pub(crate) fn all_of(tail: &str) -> Subscribe {
    Subscribe::new(Pattern::parse(&format!("acp.v1.events.{tail}")).unwrap())
}

pub(crate) async fn receive(subscription: &mut Subscription) -> Delivery {
    match within("a delivery", subscription.receive()).await {
        Some(Received::Live(delivery)) => delivery,
        other => panic!("expected a live delivery, got {other:?}"),
    }
}

pub(crate) fn number(delivery: &Delivery) -> u64 {
    let payload = delivery.envelope().payload.as_ref().unwrap();
    payload.decode().unwrap()
}
