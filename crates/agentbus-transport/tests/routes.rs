//! What a thread remembers of where its messages go, in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

use std::sync::Arc;

use agentbus_protocol::{Envelope, EventId, EventType, Pattern, Stamp, Subject, Timestamp};
use agentbus_transport::{
    MemoryTransport, Message, PublishOptions, Subscribe, Subscription, Transport,
};

async fn subscribed(transport: &MemoryTransport, pattern: &str) -> Subscription {
    let request = Subscribe::new(Pattern::parse(pattern).unwrap());
    transport.subscribe(request).await.unwrap()
}

/// Publishes and says how many have heard it.
async fn heard(transport: &MemoryTransport, subject: &str) -> usize {
    let stamp = Stamp {
        event_id: EventId::v7(0, &[7; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let envelope = Envelope::new(stamp, EventType::from("a.b"));
    let message = Message::new(Subject::parse(subject).unwrap(), envelope);
    let receipt = transport.publish(Arc::new(message), PublishOptions::default());
    receipt.await.unwrap().receivers.unwrap()
}

#[tokio::test]
async fn whoever_comes_and_goes_between_two_messages_counts() {
    let transport = MemoryTransport::new();
    assert_eq!(heard(&transport, "events.a.b").await, 0);
    let exact = subscribed(&transport, "events.a.b").await;
    assert_eq!(heard(&transport, "events.a.b").await, 1);
    let any = subscribed(&transport, "events.>").await;
    assert_eq!(heard(&transport, "events.a.b").await, 2);
    assert_eq!(heard(&transport, "events.a.c").await, 1);
    assert_eq!(heard(&transport, "events.a.b").await, 2);
    drop(exact);
    assert_eq!(heard(&transport, "events.a.b").await, 1);
    drop(any);
    assert_eq!(heard(&transport, "events.a.b").await, 0);
}

#[tokio::test]
async fn two_brokers_on_one_thread_do_not_mix() {
    let (here, there) = (MemoryTransport::new(), MemoryTransport::new());
    let _listener = subscribed(&here, "events.a.b").await;
    for _ in 0..3 {
        assert_eq!(heard(&here, "events.a.b").await, 1);
        assert_eq!(heard(&there, "events.a.b").await, 0);
    }
}
