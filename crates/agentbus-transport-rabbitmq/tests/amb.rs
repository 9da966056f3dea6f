//! AMB peers at the same broker, with their real package: publish and subscribe, both ways.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_protocol::{Pattern, Payload, Subject};
use agentbus_transport::{Priority, PublishOptions, Received, Subscribe, Transport};
use agentbus_transport_rabbitmq::RabbitTransport;
use serde_json::json;

use support::amb::{Peer, a_bus_shares};
use support::messages::{receive, to, within};

// One test, because each start of the peer costs seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_between_the_two_in_both_directions() {
    let transport = RabbitTransport::connect(support::shared()).await.unwrap();
    let mut peer = Peer::start(support::shared()).await;
    they_hear_us(&transport, &mut peer).await;
    we_hear_them(&transport, &mut peer).await;
    our_names_and_groups_hear_them(&transport, &mut peer).await;
    transport.close(Duration::ZERO).await;
    let url = format!("{}?amb=till.*", support::shared());
    a_bus_shares(&url, &mut peer, "till.open").await;
}

async fn they_hear_us(transport: &RabbitTransport, peer: &mut Peer) {
    peer.run(json!({"subscribe": "fraud.alerts"})).await;
    let mut message = (*to(Subject::parse("fraud.alerts").unwrap(), 1)).clone();
    message.envelope.payload = Some(Payload::json(&json!({"amount": 12.5, "who": "Zoë"})).unwrap());
    message.envelope.from = "till".into();
    message.envelope.metadata.insert_text("k", "v");
    message.priority = Priority::Urgent;
    message.expires_at = Some(Instant::now() + Duration::from_secs(600));
    let sent = transport.publish(Arc::new(message.clone()), PublishOptions::default());
    sent.await.unwrap();
    let heard = peer.heard().await;
    assert_eq!(heard["payload"], json!({"amount": 12.5, "who": "Zoë"}));
    assert_eq!(heard["topic"], "fraud.alerts");
    assert_eq!(heard["sender"], "till");
    assert_eq!(heard["priority"], 10);
    assert_eq!(heard["metadata"]["k"], "v");
    message
        .envelope
        .event_id
        .with_str(|id| assert_eq!(heard["id"], id));

    // A payload that is no object is one to them.
    let plain = to(Subject::parse("fraud.alerts").unwrap(), 7);
    transport
        .publish(plain, PublishOptions::default())
        .await
        .unwrap();
    assert_eq!(peer.heard().await["payload"], json!({"value": 7}));
}

async fn we_hear_them(transport: &RabbitTransport, peer: &mut Peer) {
    let wild = Subscribe::new(Pattern::parse("orders.*").unwrap());
    let mut heard = transport.subscribe(wild).await.unwrap();
    let id = peer
        .run(json!({
            "publish": "orders.new", "payload": {"n": 1}, "sender": "py", "priority": "HIGH",
            "ttl_seconds": 600, "correlation_id": "c-1", "metadata": {"k": "v"},
        }))
        .await;
    let delivery = receive(&mut heard).await;
    let envelope = delivery.envelope();
    assert_eq!(delivery.subject().as_str(), "orders.new");
    assert_eq!(envelope.payload.as_ref().unwrap().as_str(), r#"{"n":1}"#);
    assert_eq!(&*envelope.from, "py");
    envelope.event_id.with_str(|read| assert_eq!(id, read));
    envelope
        .correlation_id
        .with_str(|read| assert_eq!(read, "c-1"));
    assert_eq!(envelope.metadata.get::<String>("k").unwrap(), "v");
    assert_eq!(delivery.message().priority, Priority::High);
    let left = delivery.message().remaining_ttl().unwrap();
    assert!(
        left > Duration::from_secs(300) && left <= Duration::from_secs(600),
        "{left:?}"
    );

    // What is over before it is heard is not live; upstream delivers it.
    peer.run(json!({"publish": "orders.late", "payload": {}, "ttl_seconds": 0}))
        .await;
    let late = within("the late message", heard.receive()).await.unwrap();
    assert!(matches!(late, Received::Expired(_)), "{late:?}");
}

/// What is bound to the exchange gets everything, whoever publishes it.
async fn our_names_and_groups_hear_them(transport: &RabbitTransport, peer: &mut Peer) {
    let tail = format!("kept-{}", std::process::id());
    let mut named = Subscribe::new(Pattern::parse(&format!("{tail}.*")).unwrap());
    named.durable = Some(tail.as_str().into());
    let mut grouped = Subscribe::new(named.pattern.clone());
    grouped.group = Some("workers".into());
    let mut named = transport.subscribe(named).await.unwrap();
    let mut grouped = transport.subscribe(grouped).await.unwrap();
    peer.run(json!({"publish": format!("{tail}.new"), "payload": {"n": 2}}))
        .await;
    for subscription in [&mut named, &mut grouped] {
        let delivery = receive(subscription).await;
        let payload = delivery.envelope().payload.as_ref();
        assert_eq!(payload.unwrap().as_str(), r#"{"n":2}"#);
        delivery.ack().await.unwrap();
    }
}
