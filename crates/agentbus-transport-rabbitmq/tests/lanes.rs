//! What the broker's own priorities do for a group; durable names have none.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;

use agentbus_transport::{Priority, PublishOptions, Transport};
use agentbus_transport_rabbitmq::RabbitTransport;

use support::messages::{all_of, message, number, receive, within};

async fn publish(transport: &RabbitTransport, n: u64, priority: Priority) {
    let mut message = Arc::unwrap_or_clone(message("lanes", n));
    message.priority = priority;
    let sent = transport.publish(Arc::new(message), PublishOptions::default());
    within("a confirmation", sent).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_priority_overtakes_in_a_group() {
    let transport = RabbitTransport::connect(&support::alone()).await.unwrap();
    let mut request = all_of("lanes");
    request.group = Some("workers".into());
    request.prefetch = 1;
    let mut group = transport.subscribe(request).await.unwrap();
    publish(&transport, 0, Priority::Normal).await;
    // While it is held, the broker hands out nothing more.
    let held = receive(&mut group).await;
    for round in 0..2 {
        for (lane, priority) in (1..).zip(Priority::ALL) {
            publish(&transport, lane * 10 + round, priority).await;
        }
    }
    held.ack().await.unwrap();
    let mut order = Vec::new();
    for _ in 0..12 {
        let delivery = receive(&mut group).await;
        order.push(number(&delivery));
        delivery.ack().await.unwrap();
    }
    // The highest lane first, and within a lane the order of the publishes.
    assert_eq!(order, [60, 61, 50, 51, 40, 41, 30, 31, 20, 21, 10, 11]);
}
