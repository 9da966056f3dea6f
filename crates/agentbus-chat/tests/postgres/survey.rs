//! A database is looked at as it is, and what a start would fail for is told with what to do.

use std::time::{Duration, Instant};

use agentbus_chat::store::{Obstacle, PostgresStore, Store, Survey};
use postgres::{Client, NoTls};
use tokio::runtime::Runtime;

use super::server::{Server, schema};

/// Longest time that a server may take to read its settings again.
const RELOAD: Duration = Duration::from_secs(30);

fn survey(url: &str) -> Result<Survey, Obstacle> {
    Runtime::new().unwrap().block_on(PostgresStore::survey(url))
}

#[track_caller]
fn refused(url: &str, found: &str, next: &str) {
    let obstacle = survey(url).unwrap_err();
    assert!(obstacle.found.contains(found), "{obstacle}");
    assert!(obstacle.next.contains(next), "{obstacle}");
    assert!(!obstacle.to_string().contains("hunter2"), "{obstacle}");
}

/// Runs statements in the schema of a URL.
fn run(url: &str, sql: &str) {
    let mut client = Client::connect(url, NoTls).unwrap();
    client.batch_execute(sql).unwrap();
}

#[test]
fn a_database_is_looked_at_and_stays_as_it_is() {
    let url = schema();
    for _ in 0..2 {
        let found = survey(&url).unwrap();
        assert_eq!(found.layout, 0, "looking makes no tables");
        assert!(
            !found.is_encrypted && !found.version.is_empty(),
            "{found:?}"
        );
    }
    Runtime::new().unwrap().block_on(async {
        let store = PostgresStore::open(url.as_str()).await.unwrap();
        store.close().await;
    });
    let found = survey(&url).unwrap();
    assert_eq!(found.layout, found.known);

    run(&url, "DELETE FROM agentbus_steps WHERE step = 3");
    for _ in 0..2 {
        assert_eq!(survey(&url).unwrap().layout, 2, "looking takes no step");
    }
    run(
        &url,
        "UPDATE agentbus_steps SET fingerprint = 'x' WHERE step = 2",
    );
    refused(&url, "step 2 of its layout", "restore the last good copy");
    let all = "DELETE FROM agentbus_steps; \
               INSERT INTO agentbus_steps SELECT n, 'x', 'x' FROM generate_series(1, 99) n";
    run(&url, all);
    refused(&url, "has layout 99", "use a newer agentbus");
}

/// Has a server ask `locked` for a password, and not admit `hidden`.
fn locked(server: &Server) {
    let mut client = Client::connect(server.url(), NoTls).unwrap();
    let sql = "SET password_encryption = 'scram-sha-256'; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
               CREATE ROLE locked LOGIN PASSWORD 'right'; CREATE ROLE hidden LOGIN";
    client.batch_execute(sql).unwrap();
    let rules: String = client.query_one("SHOW hba_file", &[]).unwrap().get(0);
    let sql = format!(
        "COPY (VALUES ('host all postgres 127.0.0.1/32 trust'), \
         ('host all locked 127.0.0.1/32 scram-sha-256')) TO '{rules}'"
    );
    client.batch_execute(&sql).unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    let open = server.url().replace("postgres@", "hidden@");
    let begun = Instant::now();
    while Client::connect(&open, NoTls).is_ok() {
        assert!(begun.elapsed() < RELOAD, "the rules are not read");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_keeps_a_bus_out_of_a_database_is_told_with_what_to_do() {
    let server = Server::start();
    locked(&server);
    let url = server.url();
    let by = |who: &str| url.replace("postgres@", &format!("{who}@"));
    refused(
        &by("locked:hunter2"),
        "password authentication failed",
        "the password in the URL",
    );
    refused(&by("locked"), "the URL has none", "USER:PASSWORD@HOST");
    refused(&by("hidden"), "hidden", "sslmode=require");
    let encrypted = format!("{url}?sslmode=require");
    refused(&encrypted, "does not support TLS", "sslmode=disable");
    let unknown = format!("{}/nowhere", url.strip_suffix("/postgres").unwrap());
    refused(&unknown, "nowhere", "createdb");
    refused(
        &by("locked:right"),
        "may not make tables in the schema public",
        "GRANT USAGE, CREATE ON SCHEMA \"public\" TO",
    );
    let option = |what: &str| format!("{url}?options=-c{what}");
    refused(
        &option("search_path%3Dnowhere"),
        "none of the schemas",
        "CREATE SCHEMA",
    );
    let reads = option("default_transaction_read_only%3Don");
    refused(&reads, "takes no writes", "default_transaction_read_only");
    // The schema is there, but its tables were begun by another.
    run(
        url,
        "CREATE TABLE agentbus_steps (step INT, name TEXT, fingerprint TEXT)",
    );
    run(url, "GRANT CREATE ON SCHEMA public TO locked");
    refused(&by("locked:right"), "agentbus_steps", "GRANT");
    run(url, "GRANT SELECT ON agentbus_steps TO locked");
    refused(
        &by("locked:right"),
        "only their owner",
        "the owner's name in the URL",
    );
    assert_eq!(survey(url).unwrap().layout, 0);
    drop(server);
    let gone = "postgresql://u:hunter2@127.0.0.1:1/d";
    refused(gone, "nobody listens there", "start PostgreSQL");
}
