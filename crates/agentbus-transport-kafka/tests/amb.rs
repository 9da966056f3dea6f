//! AMB peers on the same brokers, with their real package: publish and subscribe, both ways.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_protocol::{Pattern, Payload, Subject};
use agentbus_transport::{Message, Priority, PublishOptions, Received, Subscribe, Transport};
use agentbus_transport_kafka::KafkaTransport;
use serde_json::{Value, json};

use support::amb::{Peer, a_bus_shares};
use support::messages::{receive, to, within};

/// A topic that no other run knows; brokers keep them.
fn topic(kind: &str) -> String {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    format!("{kind}.t{}-{since}", std::process::id())
}

// One test, because each start of the peer costs seconds: both directions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_between_the_two_in_both_directions() {
    let (alerts, orders, till) = (topic("alerts"), topic("orders"), topic("till"));
    let url = support::url();
    let shared = format!("{url}&amb={alerts},{orders},{till}");
    let transport = KafkaTransport::connect(&shared).await.unwrap();
    let (broker, _) = url.split_once('?').unwrap();
    let mut peer = Peer::start(broker).await;
    they_hear_us(&transport, &mut peer, &alerts).await;
    we_hear_them(&transport, &mut peer, &orders).await;
    a_bus_shares(&shared, &mut peer, &till).await;
}

async fn they_hear_us(transport: &KafkaTransport, peer: &mut Peer, topic: &str) {
    peer.run(json!({"subscribe": topic})).await;
    let mut message = (*to(Subject::parse(topic).unwrap(), 1)).clone();
    message.envelope.payload = Some(Payload::json(&json!({"amount": 12.5, "who": "Zoë"})).unwrap());
    message.envelope.from = "till".into();
    message.envelope.metadata.insert_text("k", "v");
    message.priority = Priority::Urgent;
    message.expires_at = Some(Instant::now() + Duration::from_secs(600));
    let heard = say_until_heard(transport, peer, &message).await;
    assert_eq!(heard["payload"], json!({"amount": 12.5, "who": "Zoë"}));
    assert_eq!(heard["topic"], topic);
    assert_eq!(heard["sender"], "till");
    assert_eq!(heard["priority"], 10);
    assert_eq!(heard["metadata"]["k"], "v");
    message
        .envelope
        .event_id
        .with_str(|id| assert_eq!(heard["id"], id));
}

/// Publishes again and again: upstream's subscription begins some time after it says so.
async fn say_until_heard(transport: &KafkaTransport, peer: &mut Peer, message: &Message) -> Value {
    loop {
        let sent = transport.publish(Arc::new(message.clone()), PublishOptions::default());
        sent.await.unwrap();
        let patience = Duration::from_millis(500);
        if let Ok(heard) = tokio::time::timeout(patience, peer.heard()).await {
            return heard;
        }
    }
}

async fn we_hear_them(transport: &KafkaTransport, peer: &mut Peer, topic: &str) {
    let wild = Subscribe::new(Pattern::parse("orders.*").unwrap());
    let mut heard = transport.subscribe(wild.clone()).await.unwrap();
    let mut shared = wild;
    shared.group = Some("g".into());
    let mut one = transport.subscribe(shared.clone()).await.unwrap();
    let mut other = transport.subscribe(shared).await.unwrap();
    let id = peer
        .run(json!({
            "publish": topic, "payload": {"n": 1}, "sender": "py", "priority": "HIGH",
            "ttl_seconds": 600, "correlation_id": "c-1", "metadata": {"k": "v"},
        }))
        .await;
    let delivery = receive(&mut heard).await;
    let envelope = delivery.envelope();
    assert_eq!(delivery.subject().as_str(), topic);
    let payload: Value = envelope.payload.as_ref().unwrap().decode().unwrap();
    assert_eq!(payload, json!({"n": 1}));
    assert_eq!(&*envelope.from, "py");
    envelope.event_id.with_str(|read| assert_eq!(id, read));
    assert_eq!(envelope.metadata.get::<String>("k").unwrap(), "v");
    assert_eq!(delivery.message().priority, Priority::High);
    // A group hears it once, though its publisher knows no groups.
    let first = within("the group's", async {
        tokio::select! {
            received = one.receive() => received,
            received = other.receive() => received,
        }
    });
    assert!(matches!(first.await, Some(Received::Live(_))));

    // What is over before it is heard is not live; upstream delivers it.
    peer.run(json!({"publish": topic, "payload": {}, "ttl_seconds": 0}))
        .await;
    let late = within("the late message", heard.receive()).await.unwrap();
    assert!(matches!(late, Received::Expired(_)), "{late:?}");
    let again = within("the group's late message", async {
        tokio::select! {
            received = one.receive() => received,
            received = other.receive() => received,
        }
    });
    let late = again.await;
    assert!(matches!(late, Some(Received::Expired(_))), "{late:?}");
}
