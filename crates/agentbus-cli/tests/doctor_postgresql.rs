//! `agentbus doctor` logs in to the database of the conversations, and leaves it as it is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "a test that cannot go on should say where; the server's support has more than is used"
)]

#[path = "../../agentbus-chat/tests/support/postgres.rs"]
mod postgresql;
#[path = "support/serving.rs"]
mod serving;

use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use url::Url;

use serving::{SERVE, Serving, agentbus};

/// The exit code of something that is wrong.
const UNWELL: i32 = 11;

/// What is said of a store, and how the program ends. The password is not among it.
fn doctor(dir: &Path, store: &str) -> (Value, Option<i32>) {
    let mut command = agentbus(dir);
    command.env("AGENTBUS_URL", "http://127.0.0.1:1");
    command.args(["doctor", "--json", "--chat-store", store]);
    let output = command.output().unwrap();
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!said.contains("hunter2"), "{said}");
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut checks = checks.into_iter();
    let found = checks.find(|check| check["check"] == "store of conversations");
    (
        found.unwrap_or_else(|| panic!("{said}")),
        output.status.code(),
    )
}

#[track_caller]
fn check((found, code): &(Value, Option<i32>), state: &str, detail: &str, hint: &str) {
    assert_eq!(found["state"], state, "{found}");
    assert!(
        found["detail"].as_str().unwrap().contains(detail),
        "{found}"
    );
    assert!(found["hint"].as_str().unwrap().contains(hint), "{found}");
    assert_eq!(found["hint"] != "", state != "ok", "{found}");
    let ends = if state == "wrong" { UNWELL } else { 0 };
    assert_eq!(*code, Some(ends), "{found}");
}

#[test]
fn the_database_says_its_version_and_whether_it_has_tables() {
    let dir = tempfile::tempdir().unwrap();
    let database = postgresql::schema();
    let mut with_password = Url::parse(&database).unwrap();
    with_password.set_password(Some("hunter2")).unwrap();
    for _ in 0..2 {
        let found = doctor(dir.path(), with_password.as_str());
        check(&found, "ok", "is PostgreSQL ", "");
        check(&found, "ok", "it has no tables yet", "");
    }
    let mut serve = agentbus(dir.path());
    serve
        .args(SERVE)
        .args(["--log", "warn", "--chat-store", &database]);
    Serving::start(&mut serve).process.end();
    let found = doctor(dir.path(), &database);
    check(&found, "ok", "which is that of this version", "");

    let mut unknown = with_password;
    unknown.set_path("/nowhere");
    let found = doctor(dir.path(), unknown.as_str());
    check(&found, "wrong", "nowhere", "createdb");
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    // Connections are accepted by the system, and by nobody else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    let store = format!("postgresql://u:hunter2@{place}/d?connect_timeout=1");
    let found = doctor(dir.path(), &store);
    check(
        &found,
        "wrong",
        "the login did not end within 1s",
        "look whether a database listens",
    );
}
