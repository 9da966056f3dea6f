use agentbus_protocol::{EventType, Subject};
use agentbus_transport::Durability;

use super::*;
use crate::mint;

fn event(kind: &str) -> Message {
    let envelope = Envelope::new(mint::stamp(), EventType::from(kind));
    let subject = Subject::parse(&format!("acp.v1.events.{kind}")).unwrap();
    Message::new(subject, envelope)
}

const TAKEN: Result<Receipt, TransportError> = Ok(Receipt::new(Durability::Memory, Some(1)));

#[test]
fn a_topic_counts_by_priority_and_a_failure_counts_nothing() {
    let meter = Meter::default();
    let mut paid = event("order.paid");
    meter.published(&paid, Duration::from_millis(3), &TAKEN);
    paid.priority = Priority::Critical;
    meter.published(&paid, Duration::from_millis(3), &TAKEN);
    meter.delivered(&paid.envelope);
    let lost = Err(TransportError::Closed);
    meter.published(&paid, Duration::from_secs(60), &lost);
    let reading = meter.read();
    let (name, topic) = &reading.topics[0];
    assert_eq!(name, "order.paid");
    assert_eq!(topic.published, [1, 0, 0, 1, 0, 0]);
    assert_eq!(topic.delivered, 1);
    assert_eq!(reading.publishes.count(), 2);
    assert_eq!(reading.publishes.sum, Duration::from_millis(6));
    assert!(!reading.connected);
    meter.published(&paid, Duration::ZERO, &TAKEN);
    assert!(meter.read().connected);
}

#[test]
fn topics_beyond_the_limit_share_one() {
    let meter = Meter::default();
    for n in 0..limits::METER_TOPICS_MAX + 10 {
        meter.delivered(&event(&format!("t{n}")).envelope);
    }
    let reading = meter.read();
    assert_eq!(reading.topics.len(), limits::METER_TOPICS_MAX + 1);
    let others = reading.topics.iter().find(|(name, _)| name == OTHERS);
    assert_eq!(others.unwrap().1.delivered, 10);
}

#[test]
fn a_time_is_in_the_first_bucket_that_holds_it_and_in_all_above() {
    let times = Histogram::default();
    times.add(BOUNDS[0]);
    times.add(BOUNDS[0] + Duration::from_nanos(1));
    times.add(Duration::from_secs(3600));
    let read = times.read();
    assert_eq!((read.up_to[0], read.up_to[1]), (1, 2));
    assert_eq!((read.up_to[BOUNDS.len() - 1], read.count()), (2, 3));
}
