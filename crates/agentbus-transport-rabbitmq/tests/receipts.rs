//! What a receipt claims.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use agentbus_transport::{Durability, PublishOptions, Transport};
use agentbus_transport_rabbitmq::RabbitTransport;

use support::messages::{all_of, message, within};

async fn level(transport: &RabbitTransport, tail: &str) -> Durability {
    let sent = transport.publish(message(tail, 1), PublishOptions::default());
    within("a confirmation", sent).await.unwrap().durability
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_claimed_only_for_what_a_durable_name_gets() {
    let transport = RabbitTransport::connect(&support::alone()).await.unwrap();
    assert_eq!(level(&transport, "order.paid").await, Durability::Memory);
    // A group has a queue too, but in the broker's memory.
    let mut group = all_of("order.*");
    group.group = Some("billing".into());
    let group = transport.subscribe(group).await.unwrap();
    assert_eq!(level(&transport, "order.paid").await, Durability::Memory);
    let mut name = all_of("order.*");
    name.durable = Some("books".into());
    let name = transport.subscribe(name).await.unwrap();
    assert_eq!(level(&transport, "order.paid").await, Durability::Disk);
    assert_eq!(level(&transport, "plan.made").await, Durability::Memory);
    // The name outlives whoever used it.
    drop((group, name));
    assert_eq!(level(&transport, "order.paid").await, Durability::Disk);
    within("a removal", transport.remove_durable("books"))
        .await
        .unwrap();
    assert_eq!(level(&transport, "order.paid").await, Durability::Memory);
}
