//! Connections that are encrypted, to a broker with a certificate of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use agentbus_transport_rabbitmq::RabbitTransport;

use support::broker::Broker;
use support::certificates::Authority;
use support::sealed;

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

async fn passes_events(url: &str) {
    sealed::passes_events(RabbitTransport::connect(url)).await;
}

async fn refused(url: &str) -> String {
    sealed::refused(RabbitTransport::connect(url)).await
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
