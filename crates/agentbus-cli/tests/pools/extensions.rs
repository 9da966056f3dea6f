//! What SDKs write beside a message: identity, audit, and the hello that negotiates them, in the
//! shapes in which they send it.

use serde_json::{Value, json};

use crate::harness::*;
use crate::host::{Host, file};

const ID: &str = "0b9f6ae4-52c4-4d2c-9d3a-7f0c6f1c2e11";

const IDENTITY: &str = r#"{"subjectId":"u1","role":"operator","assertedBy":"self"}"#;

const AUDIT: &str = r#"{"eventId":"e1","action":"m"}"#;

/// A request in the order in which SDKs write its members.
fn request(members: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{ID}","method":"raw",{members}}}"#)
}

fn extensions() -> String {
    format!(r#"{{"identity":{IDENTITY},"audit":{AUDIT}}}"#)
}

#[test]
fn what_sdks_send_reaches_the_worker_byte_for_byte() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        let session = r#""sessionId":"client-1700000000000-ab12cd""#;
        let all = format!(
            r#""params":{{"a":1}},"sessionId":"my-session","agentId":"agent-42","_ext":{}"#,
            extensions()
        );
        for line in [
            request(session),
            request(&format!(r#""params":{{"name":"t"}},{session}"#)),
            request(&all),
            // What nobody knows is nobody's business.
            request(r#""_ext":{"magic":[1, 2 ]},"_more":null"#),
        ] {
            client.send(&line);
            let answer = client.next();
            assert_eq!(
                (&answer["id"], &answer["result"]),
                (&json!(ID), &json!(line))
            );
        }
        let note = format!(r#"{{"jsonrpc":"2.0","method":"n","params":{{"k":1}},{session}}}"#);
        client.send(&note);
        let notes = client.ask(&json!({ "id": 1, "method": "notes" }));
        let note: Value = serde_json::from_str(&note).unwrap();
        assert_eq!(notes["result"], json!([note]));
    });
}

#[test]
fn who_asked_for_what_is_logged_for_an_audit_and_nothing_else_is() {
    let (mut bus, log) = Bus::start_logging(Via::Unix, &one(1));
    let mut client = bus.client();
    client.ask(&json!({ "id": 1, "method": "unmarked" }));
    for marked in [extensions(), format!(r#"{{"identity":{IDENTITY}}}"#)] {
        client.send(&request(&format!(r#""_ext":{marked}"#)));
        client.next();
        let told = log.of("agentbus::audit");
        assert_eq!(told["method"], "raw");
        assert_eq!(told["ext"], marked);
        assert!(told["client"].is_u64(), "{told}");
    }
    // A notification acts too, and one that is refused was asked for.
    client.send(r#"{"method":"n","_ext":{"audit":{"eventId":"e2","action":"n"}}}"#);
    assert_eq!(log.of("agentbus::audit")["method"], "n");
    let refused = client.ask(&json!({ "id": 2, "method": "m", "pool": "no", "_ext": {} }));
    assert_eq!(fault(&refused), "POOL_UNKNOWN");
    assert_eq!(log.of("agentbus::audit")["ext"], "{}");
}

#[test]
fn extensions_of_a_call_on_the_bus_reach_the_worker_as_they_are() {
    let host = Host::start(&file(1, ""));
    let call = format!(
        r#"{{"method":"raw","agentId":"agent-42","_ext":{}}}"#,
        extensions()
    );
    let seen = host.says(&["invoke", "p", &call]);
    assert!(
        seen.contains(&format!(r#""_ext":{}"#, extensions())),
        "{seen}"
    );
    assert!(seen.contains(r#""agentId":"agent-42""#), "{seen}");
}

/// Says hello with these extensions.
fn hello(client: &mut Client, extensions: &Value) -> Value {
    let params = json!({ "protocolVersion": "0.1.0", "extensions": extensions });
    client.ask(&json!({
        "jsonrpc": "2.0", "id": ID, "method": "stdio_bus/hello", "params": params,
        "sessionId": "client-1700000000000-ab12cd",
    }))
}

#[test]
fn hello_negotiates_what_is_offered_and_bothers_no_worker() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        let plain = hello(&mut client, &json!({}));
        assert_eq!(
            (&plain["jsonrpc"], &plain["id"]),
            (&json!("2.0"), &json!(ID))
        );
        let result = &plain["result"];
        assert_eq!(result["negotiatedProtocolVersion"], "0.1.0");
        assert_eq!(result["sessionId"], "client-1700000000000-ab12cd");
        assert_eq!(result["extensions"], json!({}));
        let wanted = json!({
            "identity": { "version": "0.1.0", "required": true },
            "audit": { "version": "0.1.0", "required": false },
            "magic": { "version": "9", "required": false },
        });
        let active = json!({ "selected": "0.1.0", "active": true });
        assert_eq!(
            hello(&mut client, &wanted)["result"]["extensions"],
            json!({ "identity": active, "audit": active, "magic": { "active": false } })
        );
        let refused = hello(&mut client, &json!({ "magic": { "required": true } }));
        assert_eq!(
            (&refused["id"], fault(&refused)),
            (&json!(ID), "EXTENSION_UNAVAILABLE")
        );
        let data = &refused["error"]["data"];
        assert_eq!(
            (&data["extension"], &data["retryable"]),
            (&json!("magic"), &json!(false))
        );
        let unreadable = hello(&mut client, &json!([1]));
        assert_eq!(unreadable["error"]["code"], -32602);
        let stats = client.stats();
        assert_eq!(stats["workers"][0]["messagesIn"], 0);
        // Names of the bus are nobody else's, and one that is not there never reaches a worker.
        let unknown = client.ask(&json!({ "id": 1, "method": "stdio_bus/nothing" }));
        assert_eq!(fault(&unknown), "METHOD_NOT_FOUND");
    });
}

#[test]
fn who_says_hello_without_a_session_is_given_one_that_works() {
    over(&SOCKETS, &one(2), |bus| {
        let (mut a, mut b) = (bus.client(), bus.client());
        let name = |client: &mut Client| {
            let answer = client.ask(&json!({ "id": 1, "method": "stdio_bus/hello" }));
            answer["result"]["sessionId"].clone()
        };
        let (of_a, of_b) = (name(&mut a), name(&mut b));
        assert!(of_a.is_string() && of_a != of_b, "{of_a} {of_b}");
        let session = json!({ "sessionId": of_a });
        let first = a.who(&session);
        assert_ne!(
            a.who(&json!({})),
            first,
            "work without a session goes round"
        );
        assert_eq!(a.who(&session), first);
    });
}
