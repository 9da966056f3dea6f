//! Connections that are encrypted, to a server with a certificate of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentbus_chat::store::{PostgresStore, Store, StoreError};
use postgres::{Client, NoTls};

use super::server::{Server, give_away};

/// Longest time that a server may take to read its settings again.
const RELOAD: Duration = Duration::from_secs(30);

/// A server with a certificate for `localhost`, and the file of the authority to trust.
fn encrypted(folder: &Path) -> (Server, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    give_away(folder);
    give_away(&key);
    let server = Server::start();
    let mut client = Client::connect(server.url(), NoTls).unwrap();
    for (name, value) in [
        ("ssl_cert_file", certificate.to_str().unwrap()),
        ("ssl_key_file", key.to_str().unwrap()),
        ("ssl", "on"),
    ] {
        let sql = format!("ALTER SYSTEM SET {name} = '{value}'");
        client.batch_execute(&sql).unwrap();
    }
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    let begun = Instant::now();
    loop {
        let mut client = Client::connect(server.url(), NoTls).unwrap();
        let ssl: String = client.query_one("SHOW ssl", &[]).unwrap().get(0);
        if ssl == "on" {
            return (server, certificate);
        }
        assert!(begun.elapsed() < RELOAD, "TLS is not switched on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether each of the bus's connections to a server is encrypted.
fn encrypted_connections(url: &str) -> Vec<bool> {
    let mut client = Client::connect(url, NoTls).unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'agentbus'";
    let rows = client.query(sql, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn refused(url: String) -> String {
    PostgresStore::open(url).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_trusted_by_its_authority_and_its_name_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let made = tokio::task::spawn_blocking(move || encrypted(&path)).await;
    let (server, authority) = made.unwrap();
    let (plain, authority) = (server.url().to_owned(), authority.display());
    let by_name = plain.replace("127.0.0.1", "localhost");

    let url = format!("{by_name}?sslmode=verify-full&sslrootcert={authority}");
    let store = PostgresStore::open(url).await.unwrap();
    let seen = tokio::task::spawn_blocking({
        let plain = plain.clone();
        move || encrypted_connections(&plain)
    });
    let seen = seen.await.unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|one| *one), "{seen:?}");
    store.close().await;

    let unknown = refused(format!("{by_name}?sslmode=require")).await;
    assert!(unknown.contains("sslrootcert=FILE"), "{unknown}");
    let unnamed = refused(format!("{plain}?sslrootcert={authority}")).await;
    assert!(unnamed.contains("not valid for name"), "{unnamed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_tls_is_refused_when_it_is_asked_for() {
    // A server of its own: one that is there already may offer it.
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let url = server.url().to_owned();
    let error = refused(format!("{url}?sslmode=require")).await;
    assert!(error.contains("does not support TLS"), "{error}");
    assert!(error.contains("sslmode=disable"), "{error}");
}

/// Takes connections and hangs up, as what stands before a server that restarts does.
async fn hangs_up() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_while_it_is_made_is_tried_again_and_blames_no_certificate() {
    let port = hangs_up().await;
    for asked in ["sslmode=require", "sslmode=require&sslnegotiation=direct"] {
        let url = format!("postgresql://postgres@localhost:{port}/postgres?{asked}");
        let error = PostgresStore::open(url).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Unreachable(_)),
            "{asked}: {error}"
        );
    }
}
