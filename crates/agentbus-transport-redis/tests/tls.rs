//! Connections that are encrypted, to a server with a certificate of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::cell::Cell;

use agentbus_transport_redis::RedisTransport;

use support::certificates::Authority;
use support::sealed;
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

async fn passes_events(url: &str) {
    sealed::passes_events(RedisTransport::connect(url)).await;
}

async fn refused(url: &str) -> String {
    sealed::refused(RedisTransport::connect(url)).await
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
