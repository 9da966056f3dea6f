//! Every way to log in, with the right secret and with a wrong one, and encryption.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::path::{Path, PathBuf};

use agentbus_transport::TransportError;
use agentbus_transport_nats::{JetStreamTransport, NatsTransport};
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use support::Server;

async fn enters(url: &str) {
    let opened = NatsTransport::connect(url).await;
    assert!(opened.is_ok(), "{url}: {opened:?}");
}

async fn is_refused(url: &str) {
    let error = NatsTransport::connect(url).await.unwrap_err();
    assert!(
        matches!(error, TransportError::Refused { .. }),
        "{url}: {error}"
    );
    let said = error.to_string();
    assert!(said.contains("does not accept these credentials"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(!error.is_retryable());
}

fn write(server: &Server, name: &str, text: &str) -> PathBuf {
    let path = server.folder().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn a_password_is_checked() {
    let server = Server::with(&["--user", "al", "--pass", "hunter2"]);
    let host = format!("127.0.0.1:{}", server.port());
    enters(&format!("nats://al:hunter2@{host}")).await;
    is_refused(&format!("nats://al:hunter3@{host}")).await;
    is_refused(&format!("nats://{host}")).await;
}

#[tokio::test]
async fn a_token_is_checked() {
    let server = Server::with(&["--auth", "s3cret"]);
    let host = format!("127.0.0.1:{}", server.port());
    enters(&format!("nats://s3cret@{host}")).await;
    enters(&format!("nats://{host}?token=s3cret")).await;
    is_refused(&format!("nats://{host}?token=other")).await;
}

#[tokio::test]
async fn an_nkey_is_checked() {
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        known.public_key()
    );
    let server = Server::configured(&users);
    for (pair, is_known) in [(&known, true), (&unknown, false)] {
        let file = write(&server, "seed", &format!("{}\n", pair.seed().unwrap()));
        let url = format!("{}?nkey={}", server.url(), file.display());
        if is_known {
            enters(&url).await;
        } else {
            is_refused(&url).await;
        }
    }
}

#[tokio::test]
async fn a_credentials_file_is_checked() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let unlimited = json!({"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1,
        "data": -1, "payload": -1, "wildcards": true});
    let operators = token(
        &operator,
        &operator,
        &json!({"type": "operator", "version": 2}),
    );
    let accounts = token(
        &operator,
        &account,
        &json!({"type": "account", "version": 2, "limits": unlimited}),
    );
    let server = Server::configured(&format!(
        "operator: {operators}\nresolver: MEMORY\nresolver_preload: {{ {}: {accounts} }}\n",
        account.public_key()
    ));
    for (issuer, is_known) in [(&account, true), (&KeyPair::new_account(), false)] {
        let user = KeyPair::new_user();
        let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        let file = write(
            &server,
            "creds",
            &credentials(&token(issuer, &user, &claims), &user),
        );
        let url = format!("{}?creds={}", server.url(), file.display());
        if is_known {
            enters(&url).await;
        } else {
            is_refused(&url).await;
        }
    }
}

/// A token as NATS accounts use it: issued by one key for another.
fn token(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> String {
    let claims = json!({
        "jti": subject.public_key(),
        "iat": 1_700_000_000,
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": "test",
        "nats": nats,
    });
    let head = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&head), part(&claims));
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn credentials(token: &str, user: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}

#[tokio::test]
async fn a_missing_or_empty_file_is_named() {
    let server = Server::with(&[]);
    let empty = write(&server, "empty", "");
    for (key, file, expect) in [
        (
            "creds",
            Path::new("/nowhere/creds"),
            "cannot read creds=/nowhere/creds",
        ),
        (
            "nkey",
            Path::new("/nowhere/seed"),
            "cannot read nkey=/nowhere/seed",
        ),
        ("creds", empty.as_path(), "holds no NATS credentials"),
    ] {
        let url = format!("{}?{key}={}", server.url(), file.display());
        let error = NatsTransport::connect(&url).await.unwrap_err();
        assert!(matches!(error, TransportError::Address(_)), "{error}");
        assert!(error.to_string().contains(expect), "{error}");
    }
}

#[tokio::test]
async fn a_scheme_opens_its_own_transport_only() {
    let server = Server::start();
    assert!(NatsTransport::connect(&server.jetstream()).await.is_err());
    assert!(JetStreamTransport::connect(&server.url()).await.is_err());
    JetStreamTransport::connect(&server.jetstream())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_forbidden_subject_is_an_error_of_its_subscription() {
    let server = Server::configured(
        "authorization { users: [ { user: al, password: p, permissions: {
            publish: [\">\"], subscribe: [\"_INBOX.>\", \"acp.v1.events.open.>\"] } } ] }",
    );
    let bus = agentbus::Bus::builder("al")
        .transport(format!("nats://al:p@127.0.0.1:{}", server.port()))
        .connect()
        .await
        .unwrap();
    bus.subscribe("open.door").await.unwrap();
    let error = bus.subscribe("closed.door").await.unwrap_err();
    assert_eq!(error.code(), agentbus::ErrorCode::AuthFailure, "{error}");
    assert!(
        error.to_string().contains("acp.v1.events.closed.door"),
        "{error}"
    );
}

/// A server that speaks TLS only, and the file of the authority to trust.
fn encrypted() -> (Server, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap().keep();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (shown, secret) = (certificate.display(), key.display());
    let server = Server::configured(&format!(
        "tls {{ cert_file: \"{shown}\", key_file: \"{secret}\" }}"
    ));
    (server, certificate)
}

#[tokio::test]
async fn an_encrypted_server_is_trusted_by_its_authority_only() {
    let (server, authority) = encrypted();
    let (port, ca) = (server.port(), authority.display());
    enters(&format!("nats://localhost:{port}?ca={ca}")).await;
    enters(&format!("tls://localhost:{port}?ca={ca}")).await;
    let error = NatsTransport::connect(&format!("nats://localhost:{port}"))
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
    std::fs::remove_dir_all(authority.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn encryption_that_is_required_is_not_given_up() {
    let server = Server::with(&[]);
    let plain = format!("nats://127.0.0.1:{}?tls=required", server.port());
    let error = NatsTransport::connect(&plain).await.unwrap_err();
    assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
}
