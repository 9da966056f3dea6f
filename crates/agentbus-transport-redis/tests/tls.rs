//! Connections that are encrypted, to a server with a certificate of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::cell::Cell;

use agentbus_transport::{PublishOptions, Transport, TransportError};
use agentbus_transport_redis::RedisTransport;

use support::certificates::Authority;
use support::messages::{all_of, message, number, receive, within};
use support::{Server, free_port};

/// Whether a server asks its clients for a certificate.
#[derive(Clone, Copy)]
enum Clients {
    Unknown,
    Certified,
}

/// A server that also speaks TLS, and the port at which it does.
fn encrypted(authority: &Authority, clients: Clients) -> (Server, u16) {
    let (own, port) = (authority.server(), Cell::new(0));
    let asks = match clients {
        Clients::Unknown => "no",
        Clients::Certified => "yes",
    };
    let server = Server::told(|| {
        port.set(free_port());
        [
            ("--tls-port", port.get().to_string()),
            ("--tls-cert-file", own.certificate.display().to_string()),
            ("--tls-key-file", own.key.display().to_string()),
            ("--tls-ca-cert-file", authority.file().display().to_string()),
            ("--tls-auth-clients", asks.to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    });
    (server, port.get())
}

/// Connects, and passes events over each of the connections that a bus has.
async fn passes_events(url: &str) {
    let transport = within("a connection", RedisTransport::connect(url));
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
    let error = within("an answer", RedisTransport::connect(url))
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_trusted_by_its_authority_only() {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let (_server, port) = encrypted(&authority, Clients::Unknown);
    let url = format!("rediss://127.0.0.1:{port}");
    passes_events(&format!("{url}?ca={}", authority.file().display())).await;
    for url in [url.clone(), format!("{url}?ca={}", other.file().display())] {
        let said = refused(&url).await;
        assert!(said.contains("UnknownIssuer"), "{said}");
        assert!(said.contains("ca=FILE names an authority"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_shows_its_certificate_where_it_is_asked_to() {
    let authority = Authority::new("ours");
    let (_server, port) = encrypted(&authority, Clients::Certified);
    let url = format!(
        "rediss://127.0.0.1:{port}?ca={}",
        authority.file().display()
    );
    passes_events(&format!("{url}&{}", authority.client().query())).await;
    let said = refused(&url).await;
    assert!(said.contains("cert=FILE and key=FILE"), "{said}");
    let other = Authority::new("other");
    refused(&format!("{url}&{}", other.client().query())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_connection_to_a_port_that_speaks_tls_fails() {
    let authority = Authority::new("ours");
    let (_server, port) = encrypted(&authority, Clients::Unknown);
    let said = refused(&format!("redis://127.0.0.1:{port}")).await;
    assert!(said.contains("reached with rediss://"), "{said}");
}
