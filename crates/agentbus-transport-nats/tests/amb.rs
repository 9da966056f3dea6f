//! AMB peers on the same server, with their real package: publish and subscribe, both ways.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../../agentbus-transport-redis/tests/support/amb.rs"]
mod amb;
#[allow(dead_code, reason = "the tests of other carriers use the rest of it")]
#[path = "../../agentbus-transport-redis/tests/support/messages.rs"]
mod messages;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_protocol::{Pattern, Payload, Subject};
use agentbus_transport::{Priority, PublishOptions, Received, Subscribe, Transport};
use agentbus_transport_nats::NatsTransport;
use serde_json::json;

use amb::{Peer, a_bus_shares};
use messages::{receive, to, within};
use support::Server;

// One test, because each start of the peer costs seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_between_the_two_in_both_directions() {
    let server = Server::with(&[]);
    let transport = NatsTransport::connect(&format!("{}?amb=on", server.url()))
        .await
        .unwrap();
    let mut peer = Peer::start(&server.url()).await;
    they_hear_us(&transport, &mut peer).await;
    we_hear_them(&transport, &mut peer).await;
    we_hear_one_another(&transport, &server).await;
    // A topic that is called like a call is none.
    let url = format!("{}?amb=till.*", server.url());
    a_bus_shares(&url, &mut peer, "till.cancel").await;
}

async fn they_hear_us(transport: &NatsTransport, peer: &mut Peer) {
    peer.run(json!({"subscribe": "fraud/alerts"})).await;
    let mut message = (*to(Subject::parse("fraud.alerts").unwrap(), 1)).clone();
    message.envelope.payload = Some(Payload::json(&json!({"amount": 12.5, "who": "Zoë"})).unwrap());
    message.envelope.from = "till".into();
    message.priority = Priority::Urgent;
    message.expires_at = Some(Instant::now() + Duration::from_secs(600));
    let sent = transport.publish(Arc::new(message.clone()), PublishOptions::default());
    sent.await.unwrap();
    let heard = peer.heard().await;
    assert_eq!(heard["payload"], json!({"amount": 12.5, "who": "Zoë"}));
    assert_eq!(heard["topic"], "fraud.alerts");
    assert_eq!(heard["sender"], "till");
    assert_eq!(heard["priority"], 10);
    message
        .envelope
        .event_id
        .with_str(|id| assert_eq!(heard["id"], id));
}

async fn we_hear_them(transport: &NatsTransport, peer: &mut Peer) {
    let wild = Subscribe::new(Pattern::parse("orders.>").unwrap());
    let mut heard = transport.subscribe(wild).await.unwrap();
    let id = peer
        .run(json!({
            "publish": "orders/new", "payload": {"n": 1}, "sender": "py", "priority": "HIGH",
            "ttl_seconds": 600, "metadata": {"k": "v"},
        }))
        .await;
    let delivery = receive(&mut heard).await;
    let envelope = delivery.envelope();
    assert_eq!(delivery.subject().as_str(), "orders.new");
    assert_eq!(envelope.event_type.as_str(), "orders/new");
    assert_eq!(envelope.payload.as_ref().unwrap().as_str(), r#"{"n":1}"#);
    assert_eq!(&*envelope.from, "py");
    envelope.event_id.with_str(|read| assert_eq!(id, read));
    assert_eq!(delivery.message().priority, Priority::High);

    // What is over before it is heard is not live.
    peer.run(json!({"publish": "orders.late", "payload": {}, "ttl_seconds": 0}))
        .await;
    let late = within("the late message", heard.receive()).await.unwrap();
    assert!(matches!(late, Received::Expired(_)), "{late:?}");
}

/// Two of ours share events with AMB and everything else as ever: a whole envelope, and calls.
async fn we_hear_one_another(transport: &NatsTransport, server: &Server) {
    let url = format!("{}?amb=on", server.url());
    let bus = |name: &'static str| agentbus::Bus::builder(name).transport(&url).connect();
    let (one, other) = (bus("one").await.unwrap(), bus("other").await.unwrap());
    let mut events = other.subscribe("order.*").await.unwrap();
    one.publish("order.paid", &7).session("s-1").await.unwrap();
    let paid = within("the event", events.next()).await.unwrap();
    assert_eq!(paid.envelope().payload.as_ref().unwrap().as_str(), "7");
    assert_eq!(paid.envelope().context.session_id.as_str(), "s-1");
    let echo = |request: agentbus::Request| async move { Ok(request.payload().cloned()) };
    other.handle("echo", echo).await.unwrap();
    let reply = one.invoke("echo", &json!({"n": 1})).send().await.unwrap();
    assert_eq!(reply.payload.unwrap().as_str(), r#"{"n":1}"#);
    one.shutdown().await;
    other.shutdown().await;
    assert!(transport.stats().published > 0);
}
