//! Members of one group that listen on different subjects, in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

use std::sync::Arc;

use agentbus_protocol::{Envelope, EventId, EventType, Pattern, Stamp, Subject, Timestamp};
use agentbus_transport::{
    MemoryTransport, Message, PublishOptions, Received, Subscribe, Subscription, Transport,
};

async fn member(transport: &MemoryTransport, pattern: &str) -> Subscription {
    let mut request = Subscribe::new(Pattern::parse(pattern).unwrap());
    request.group = Some("g".into());
    transport.subscribe(request).await.unwrap()
}

fn event() -> Arc<Message> {
    let stamp = Stamp {
        event_id: EventId::v7(0, &[7; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let subject = Subject::parse("events.a.b").unwrap();
    Arc::new(Message::new(
        subject,
        Envelope::new(stamp, EventType::from("a.b")),
    ))
}

async fn take(member: &mut Subscription) {
    match member.receive().await {
        Some(Received::Live(delivery)) => delivery.ack().await.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn they_take_turns_whether_or_not_the_publisher_waits_for_them() {
    for confirm in [false, true] {
        let transport = MemoryTransport::new();
        let mut exact = member(&transport, "events.a.b").await;
        let mut any = member(&transport, "events.a.*").await;
        for _ in 0..10 {
            for member in [&mut exact, &mut any] {
                let options = PublishOptions {
                    confirm,
                    ..PublishOptions::default()
                };
                let published = transport.publish(event(), options);
                let taken = async { tokio::join!(published, take(member)).0 };
                let limit = std::time::Duration::from_secs(20);
                let receipt = tokio::time::timeout(limit, taken).await;
                let receipt = receipt.expect("the member's turn").unwrap();
                assert_eq!(receipt.receivers, Some(1), "confirm: {confirm}");
            }
        }
    }
}
