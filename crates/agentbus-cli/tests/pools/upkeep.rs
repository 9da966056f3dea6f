//! What a pool does for its workers: where and with what they start, when they are replaced, and
//! what becomes of what they write to standard error.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::*;

/// A pool of scripted workers with one more key.
fn pool_with(instances: u32, key: &str, value: Value) -> Value {
    let mut pool = pool("p", instances);
    pool[key] = value;
    pool
}

/// Waits until a session is served by another process than before.
fn replaced(client: &mut Client, session: &Value, before: u64) {
    eventually("another process", || {
        // None of these may be lost or refused: a replacement is nobody's affair but the bus's.
        (client.who(session) != before).then_some(())
    });
}

/// A worker that answers every request with the words of a shell.
fn shell(id: &str, words: &str) -> Value {
    let script =
        format!(r#"while read -r line; do printf '{{"id":1,"result":"%s"}}\n' "{words}"; done"#);
    shell_pool(id, &script, 1)
}

#[test]
fn a_worker_starts_in_its_directory_with_its_variables() {
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().canonicalize().unwrap();
    let words = "$SHADE in $(pwd -P)";
    let (plain, mut changed) = (shell("plain", words), shell("changed", words));
    changed["env"] = json!({ "SHADE": "light" });
    changed["cwd"] = json!(elsewhere);
    let config = config(&[plain, changed], &json!({}));
    let mut bus = Bus::start_with(Via::Stdio, &config, "error", |command| {
        command.env("SHADE", "dark");
    });
    let mut client = bus.client();
    let mut of = |pool: &str| client.ask(&json!({ "id": 1, "method": "m", "pool": pool }));
    let here = bus.dir.path().canonicalize().unwrap();
    let said = |shade: &str, place: &std::path::Path| format!("{shade} in {}", place.display());
    assert_eq!(of("plain")["result"], said("dark", &here));
    assert_eq!(of("changed")["result"], said("light", &elsewhere));
}

#[test]
fn a_directory_that_is_not_there_is_told_and_the_pool_given_up() {
    let mut lost = pool_with(1, "cwd", json!("/nowhere/at/all"));
    lost["restart"] = json!("never");
    let (mut bus, log) = Bus::start_logging(Via::Unix, &config(&[lost], &json!({})));
    let told = log.find(|line| line["fields"]["message"] == "a worker did not start");
    assert_eq!((&told["pool"], &told["instance"]), (&json!("p"), &json!(0)));
    assert!(
        told["error"].as_str().unwrap().contains("/nowhere/at/all"),
        "{told}"
    );
    let answer = bus.client().ask(&json!({ "id": 1, "method": "m" }));
    assert_eq!(fault(&answer), "POOL_GIVEN_UP");
}

#[test]
fn an_old_worker_is_replaced_once_it_has_no_work() {
    let config = config(&[pool_with(1, "max_age_sec", json!(1))], &json!({}));
    let mut bus = Bus::start(Via::Unix, &config);
    let (mut client, mut other) = (bus.client(), bus.client());
    let session = json!({ "sessionId": "s" });
    // In flight until it is released, which is after the age is reached.
    client.send(r#"{"id":1,"method":"hold","sessionId":"s"}"#);
    client.nothing_before("read");
    let (first, begun) = (other.who(&session), Instant::now());
    // The bus looks at ages once a second, so in this time it has seen that the worker is due.
    while begun.elapsed() < Duration::from_millis(2200) {
        assert_eq!(other.who(&session), first, "replaced although it has work");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(other.call("release", &json!({})), "released");
    assert_eq!(client.next()["result"], "held");
    replaced(&mut other, &session, first);
}

#[test]
fn a_worker_that_grew_too_large_is_replaced_and_its_neighbour_is_not() {
    let config = config(&[pool_with(2, "max_rss_mb", json!(64))], &json!({}));
    let mut bus = Bus::start(Via::Unix, &config);
    let mut client = bus.client();
    let (a, b) = (json!({ "sessionId": "a" }), json!({ "sessionId": "b" }));
    let (large, small) = (client.who(&a), client.who(&b));
    assert_ne!(large, small);
    let grow = json!({ "id": 1, "method": "grow", "params": { "mb": 128 }, "sessionId": "a" });
    assert_eq!(client.ask(&grow)["result"], "grown");
    replaced(&mut client, &a, large);
    assert_eq!(client.who(&b), small);
    let epochs: Vec<Value> = (0..2_usize)
        .map(|place| client.stats()["workers"][place]["epoch"].clone())
        .collect();
    assert_eq!(epochs, [json!(2), json!(1)]);
}

#[test]
fn a_handshake_that_is_not_answered_in_time_ends_the_worker_and_the_next_one_serves() {
    // The first says nothing, which only the limit can end.
    let script = format!(
        "if mkdir first 2>/dev/null; then exec sleep 1000; else exec '{}'; fi",
        scripted_worker().display()
    );
    let mut pool = shell_pool("p", &script, 1);
    pool["handshake"] = json!({ "method": "echo", "timeout_sec": 1 });
    let (mut bus, log) = Bus::start_logging(Via::Unix, &config(&[pool], &json!({})));
    log.find(|line| line["fields"]["message"] == "a worker did not complete its handshake");
    assert_eq!(bus.client().ask_until_served()["result"], 1);
    assert!(bus.dir.path().join("first").exists());
}

#[test]
fn the_log_names_the_worker_that_complained_by_its_pool_and_place() {
    let config = config(&[pool("a", 1), pool("b", 2)], &json!({}));
    let (mut bus, log) = Bus::start_logging(Via::Unix, &config);
    let mut client = bus.client();
    // The second worker of the second pool, which is neither the first nor the second of all.
    let complain = |text: &str| json!({ "id": 1, "method": "complain", "pool": "b", "params": { "text": text } });
    for text in ["one", "two \"quoted\""] {
        assert_eq!(client.ask(&complain(text))["result"], "complained");
    }
    let mut told = [log.of("agentbus::worker"), log.of("agentbus::worker")];
    // Two processes: which is heard first is open.
    told.sort_by_key(|line| line["instance"].as_u64());
    let line =
        |text: &str, instance: u32| json!({ "message": text, "pool": "b", "instance": instance });
    assert_eq!(told, [line("one", 0), line("two \"quoted\"", 1)]);
}
