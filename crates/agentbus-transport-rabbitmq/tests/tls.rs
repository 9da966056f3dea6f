//! Connections that are encrypted, to a broker with a certificate of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use agentbus_transport::{PublishOptions, Transport, TransportError};
use agentbus_transport_rabbitmq::RabbitTransport;

use support::broker::Broker;
use support::certificates::Authority;
use support::messages::{all_of, message, number, receive, within};

/// A broker that also speaks TLS; `clients` is what it asks of its clients.
fn encrypted(authority: &Authority, clients: &[(&str, String)]) -> Broker {
    let own = authority.server();
    let mut options = vec![
        ("cacertfile", authority.file().display().to_string()),
        ("certfile", own.certificate.display().to_string()),
        ("keyfile", own.key.display().to_string()),
    ];
    options.extend_from_slice(clients);
    Broker::encrypted(&options)
}

/// Connects, and passes one event to a name that is kept and to a listener.
async fn passes_events(url: &str) {
    let transport = within("a connection", RabbitTransport::connect(url));
    let transport = transport.await.unwrap();
    let mut kept = all_of("sealed");
    kept.durable = Some("sealed".into());
    let mut kept = transport.subscribe(kept).await.unwrap();
    let mut heard = transport.subscribe(all_of("sealed")).await.unwrap();
    let sent = transport.publish(message("sealed", 1), PublishOptions::default());
    within("a publish", sent).await.unwrap();
    for all in [&mut kept, &mut heard] {
        let delivery = receive(all).await;
        assert_eq!(number(&delivery), 1);
        delivery.ack().await.unwrap();
    }
}

/// What is said of a connection that cannot be made; the bound is the one of `within`.
async fn refused(url: &str) -> String {
    let error = within("an answer", RabbitTransport::connect(url))
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_trusted_by_its_authority_only() {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let broker = encrypted(&authority, &[]);
    let url = format!("amqps://guest:guest@{}", broker.sealed());
    passes_events(&format!("{url}?ca={}", authority.file().display())).await;
    for url in [url.clone(), format!("{url}?ca={}", other.file().display())] {
        let said = refused(&url).await;
        assert!(said.contains("UnknownIssuer"), "{said}");
        assert!(said.contains("ca=FILE names an authority"), "{said}");
    }
    let said = refused(&format!("amqp://guest:guest@{}", broker.sealed())).await;
    assert!(said.contains("reached with amqps://"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_shows_its_certificate_where_it_is_asked_to() {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let asked = [
        ("verify", "verify_peer".to_owned()),
        ("fail_if_no_peer_cert", "true".to_owned()),
    ];
    let broker = encrypted(&authority, &asked);
    let url = format!(
        "amqps://guest:guest@{}?ca={}",
        broker.sealed(),
        authority.file().display()
    );
    passes_events(&format!("{url}&{}", authority.client().query())).await;
    let said = refused(&url).await;
    assert!(said.contains("cert=FILE and key=FILE"), "{said}");
    refused(&format!("{url}&{}", other.client().query())).await;
}
