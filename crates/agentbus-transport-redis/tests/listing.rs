//! A list of durable names says what the server knows, whoever asks.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::{DurableInfo, PublishOptions, Start, Subscribe, Transport};
use agentbus_transport_redis::RedisTransport;

use support::Server;
use support::messages::{all_of, message, number, receive, within};

async fn open(url: &str) -> Arc<dyn Transport> {
    Arc::new(RedisTransport::connect(url).await.unwrap())
}

fn jobs() -> Subscribe {
    let mut request = all_of("jobs");
    request.durable = Some("my jobs".into());
    request.group = Some("g".into());
    request
}

async fn publish(transport: &Arc<dyn Transport>, tail: &str, n: u64) {
    let published = transport.publish(message(tail, n), PublishOptions::default());
    within("a publish", published).await.unwrap();
}

/// The only durable name there is.
async fn the_one(transport: &Arc<dyn Transport>) -> DurableInfo {
    let mut listed = within("a list", transport.durables()).await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    listed.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_counts_messages_and_users_wherever_they_are() {
    let server = Server::start();
    let (here, there) = (open(&server.url()).await, open(&server.url()).await);
    let mut first = here.subscribe(jobs()).await.unwrap();
    let _second = there.subscribe(jobs()).await.unwrap();
    // The queue of a group without a name is none.
    let mut group = all_of("jobs");
    group.group = Some("passing".into());
    let _passing = here.subscribe(group).await.unwrap();
    for n in 1..=3 {
        publish(&here, "jobs", n).await;
    }
    publish(&here, "other", 4).await;
    let told = DurableInfo {
        name: "my jobs".to_owned(),
        group: Some("g".to_owned()),
        pattern: "acp.v1.events.jobs".to_owned(),
        members: Some(2),
        unsettled: 3,
        seen: 4,
        behind: 0,
    };
    assert_eq!(the_one(&there).await, told);
    // A member whose client is gone, before anybody has cleared up after it.
    let mut admin = redis::Client::open(server.url()).unwrap();
    let mut left_behind = redis::cmd("SADD");
    left_behind.arg("agentbus:members:d:my jobs").arg("gone:1");
    left_behind.exec(&mut admin).unwrap();
    assert_eq!(the_one(&here).await, told);

    let delivery = receive(&mut first).await;
    assert_eq!(number(&delivery), 1);
    delivery.ack().await.unwrap();
    // What it had taken ahead is given back, with an entry that wakes whoever reads next.
    drop(first);
    let left = DurableInfo {
        members: Some(1),
        unsettled: 2,
        ..told
    };
    assert_eq!(the_one(&here).await, left);
    assert_eq!(the_one(&there).await, left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_whose_messages_are_settled_has_none() {
    let server = Server::start();
    let transport = open(&server.url()).await;
    publish(&transport, "jobs", 1).await;
    let mut request = jobs();
    request.start = Start::Beginning;
    let mut one = transport.subscribe(request).await.unwrap();
    assert_eq!(the_one(&transport).await.unsettled, 1);
    // Given back and taken again, over an entry that wakes.
    let delivery = receive(&mut one).await;
    delivery.nak(Duration::ZERO).await.unwrap();
    let delivery = receive(&mut one).await;
    assert_eq!(delivery.attempt(), 2);
    assert_eq!(the_one(&transport).await.unsettled, 1);
    delivery.ack().await.unwrap();
    drop(one);
    let told = the_one(&transport).await;
    let counts = (told.members, told.unsettled, told.seen, told.behind);
    assert_eq!(counts, (Some(0), 0, 1, 0));
    transport.remove_durable("my jobs").await.unwrap();
    assert_eq!(transport.durables().await.unwrap(), []);
}
