//! What the bus answers itself.

use serde_json::Value;

use super::*;

/// Sends a line and returns the one answer.
#[track_caller]
fn ask(bench: &mut Bench, client: ClientId, line: &str) -> Value {
    bench.says(client, line);
    assert!(bench.sent_to_workers().is_empty());
    let out = bench.sent_to_clients();
    assert_eq!(out.len(), 1, "{out:?}");
    serde_json::from_str(&out[0].1).unwrap()
}

#[test]
fn hello_negotiates() {
    let mut bench = Bench::one();
    let client = bench.client();
    let hello = r#"{"jsonrpc":"2.0","id":"u","method":"stdio_bus/hello","params":{
        "protocolVersion":"0.1.0","extensions":{"identity":{"version":"0.1.0","required":true},
        "magic":{"version":"9"}}},"sessionId":"client-1"}"#;
    let answer = ask(&mut bench, client, hello);
    let result = &answer["result"];
    assert_eq!(
        (&answer["id"], &answer["sessionId"]),
        (&"u".into(), &"client-1".into())
    );
    assert_eq!(result["negotiatedProtocolVersion"], "0.1.0");
    assert_eq!(result["sessionId"], "client-1");
    assert_eq!(result["extensions"]["identity"]["selected"], "0.1.0");
    assert_eq!(result["extensions"]["identity"]["active"], true);
    assert_eq!(result["extensions"]["magic"]["active"], false);
}

#[test]
fn hello_makes_up_a_session_and_refuses_what_it_cannot_do() {
    let mut bench = Bench::one();
    let client = bench.client();
    let first = ask(&mut bench, client, r#"{"id":1,"method":"stdio_bus/hello"}"#);
    let second = ask(&mut bench, client, r#"{"id":1,"method":"stdio_bus/hello"}"#);
    assert!(first["result"]["sessionId"].is_string());
    assert_ne!(first["result"]["sessionId"], second["result"]["sessionId"]);
    let demand = r#"{"id":1,"method":"stdio_bus/hello","params":{"extensions":{"magic":{"required":true}}}}"#;
    let refused = ask(&mut bench, client, demand);
    assert_eq!(refused["error"]["data"]["code"], "EXTENSION_UNAVAILABLE");
    assert_eq!(refused["error"]["data"]["extension"], "magic");
    let broken = ask(
        &mut bench,
        client,
        r#"{"id":1,"method":"stdio_bus/hello","params":[1,{}]}"#,
    );
    assert_eq!(broken["error"]["code"], -32602);
}

#[test]
fn stats_and_health_tell_of_every_worker() {
    let mut bench = Bench::new(&[2, 1], "");
    let client = bench.client();
    bench.says(client, r#"{"id":1,"method":"m","pool":"p"}"#);
    bench.sent_to_workers();
    let stats = ask(&mut bench, client, r#"{"id":2,"method":"stdio_bus/stats"}"#);
    assert_eq!(stats["result"]["inFlight"], 1);
    assert_eq!(stats["result"]["workers"][1]["instance"], 1);
    let health = ask(
        &mut bench,
        client,
        r#"{"id":3,"method":"stdio_bus/health"}"#,
    );
    assert_eq!(health["result"]["healthy"], true);
    bench.core.worker_mut(WorkerId(2)).reach = Reach::Down;
    let health = ask(
        &mut bench,
        client,
        r#"{"id":3,"method":"stdio_bus/health"}"#,
    );
    assert_eq!(health["result"]["healthy"], false);
    assert_eq!(health["result"]["pools"][0]["healthy"], true);
}

#[test]
fn the_namespace_is_reserved() {
    let mut bench = Bench::one();
    let client = bench.client();
    let answer = ask(&mut bench, client, r#"{"id":1,"method":"stdio_bus/nope"}"#);
    assert_eq!(answer["error"]["code"], -32601);
}
