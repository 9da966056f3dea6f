//! AMB peers on the same server, with their real package: publish and subscribe, both ways.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus::Bus;
use agentbus::bridge::{self, End, Step};
use agentbus_protocol::{Pattern, Payload, Subject};
use agentbus_transport::{Priority, PublishOptions, Received, Subscribe, Transport};
use agentbus_transport_redis::RedisTransport;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use support::Server;
use support::amb::{Peer, a_bus_shares};
use support::messages::{receive, to, within};

// One test, because each start of the peer costs seconds: both directions, then the past.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_between_the_two_in_both_directions() {
    let server = Server::with(&[]);
    let url = format!("{}?amb=on", server.url());
    let transport = RedisTransport::connect(&url).await.unwrap();
    let mut peer = Peer::start(&server.url()).await;
    they_hear_us(&transport, &mut peer).await;
    we_hear_them(&transport, &mut peer).await;
    they_read_the_past(&mut peer).await;
    let url = format!("{}?amb=till.*", server.url());
    // A second subscription of one peer reads from the connection of the first, and fails.
    let mut other = Peer::start(&server.url()).await;
    a_bus_shares(&url, &mut other, "till.open").await;
}

async fn they_hear_us(transport: &RedisTransport, peer: &mut Peer) {
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

async fn we_hear_them(transport: &RedisTransport, peer: &mut Peer) {
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

async fn they_read_the_past(peer: &mut Peer) {
    let past = peer.run(json!({"pending": "fraud.alerts"})).await;
    let past = past.as_array().unwrap();
    assert_eq!(past.len(), 2, "{past:?}");
    assert!(past.iter().any(|message| message["sender"] == "till"));
}

/// What is a topic without prefix at one end has the prefix of events at the other, and back.
#[tokio::test]
async fn a_bridge_brings_topics_under_the_prefix_and_back() {
    let server = Server::with(&[]);
    let url = format!("{}?amb=till.*", server.url());
    let theirs = Bus::builder("theirs")
        .transport(url)
        .connect()
        .await
        .unwrap();
    let ours = Bus::builder("ours").connect().await.unwrap();
    let ends = [&theirs, &ours].map(|bus| End::new(Arc::clone(bus.transport()), bus.agent_id()));
    let stop = CancellationToken::new();
    for (from, to, lands) in [(0, 1, "acp.v1.events.till.open"), (1, 0, "till.open")] {
        let buses = [&theirs, &ours];
        let pattern = buses[from].subjects().clone();
        let pattern = pattern
            .sharing(buses[from].transport().shared_topics())
            .unwrap();
        let pattern = pattern.events_pattern("till.open").unwrap();
        let bridge = bridge::between(ends[from].clone(), ends[to].clone(), pattern);
        let mut bridge = bridge.open().await.unwrap();
        let mut heard = buses[to].subscribe("till.open").await.unwrap();
        buses[from].publish("till.open", &7).await.unwrap();
        let step = within("a copy", bridge.step(None, &stop)).await.unwrap();
        assert_eq!(step, Step::Copied(1));
        let delivery = within("the copy", heard.next()).await.unwrap();
        assert_eq!(delivery.subject().as_str(), lands);
        delivery.ack().await.unwrap();
    }
}
