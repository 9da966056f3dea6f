//! Pools, workers, sessions, and whose answer it is.

use serde_json::{Value, json};

use crate::harness::*;

/// Asks each of these for its process number.
fn who(client: &mut Client, requests: &[Value]) -> Vec<u64> {
    requests.iter().map(|request| client.who(request)).collect()
}

/// Numbers values by their first appearance.
fn pattern(values: &[u64]) -> Vec<usize> {
    let place = |value: &u64| {
        let mut seen: Vec<u64> = Vec::new();
        for other in values {
            if !seen.contains(other) {
                seen.push(*other);
            }
        }
        seen.iter().position(|other| other == value).unwrap()
    };
    values.iter().map(place).collect()
}

#[track_caller]
fn check(instances: u32, requests: &[Value], want: &[usize]) {
    over(&ALL, &one(instances), |bus| {
        let found = who(&mut bus.client(), requests);
        assert_eq!(pattern(&found), want);
    });
}

#[test]
fn v13_work_without_a_session_goes_round() {
    check(3, &vec![json!({}); 6], &[0, 1, 2, 0, 1, 2]);
}

#[test]
fn v14_a_session_keeps_its_worker() {
    let requests: Vec<Value> = (0..9)
        .map(|n| json!({ "sessionId": format!("s{}", n % 3) }))
        .collect();
    check(3, &requests, &[0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn v15_v16_only_a_named_top_level_session_counts() {
    let requests = [
        json!({ "params": { "sessionId": "a" } }),
        json!({ "params": { "sessionId": "a" } }),
        json!({ "sessionId": 7 }),
        json!({ "sessionId": "" }),
    ];
    check(2, &requests, &[0, 1, 0, 1]);
}

#[test]
fn v17_to_v20_pools() {
    let config = config(&[pool("a", 1), pool("b", 1)], &json!({}));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        let answer = client.ask(&json!({ "id": 1, "method": "m" }));
        assert_eq!((&answer["id"], fault(&answer)), (&json!(1), "POOL_MISSING"));
        assert_eq!(answer["error"]["data"]["pools"], json!(["a", "b"]));
        let answer = client.ask(&json!({ "id": 2, "method": "m", "pool": "nope" }));
        assert_eq!((&answer["id"], fault(&answer)), (&json!(2), "POOL_UNKNOWN"));
        let requests = [
            json!({ "pool": "b", "sessionId": "s" }),
            json!({ "pool": "a", "sessionId": "s" }),
            json!({ "pool": "b" }),
            json!({ "pool": "a" }),
        ];
        assert_eq!(pattern(&who(&mut client, &requests)), [0, 0, 0, 1]);
    });
}

#[test]
fn v21_v23_a_session_speaks_to_all_its_clients() {
    over(&SOCKETS, &one(1), |bus| {
        let (mut a, mut b) = (bus.client(), bus.client());
        for client in [&mut a, &mut b] {
            client.ask(&json!({ "id": 1, "method": "m", "sessionId": "s" }));
        }
        let news = r#"{"method":"news","sessionId":"s"}"#;
        let say = json!({ "id": 2, "method": "say", "params": { "line": news }, "sessionId": "s" });
        assert_eq!(a.ask(&say).to_string(), news);
        assert_eq!(a.next()["id"], 2);
        assert_eq!(b.line().unwrap(), news);
        let question = r#"{"id":7,"method":"may_i","sessionId":"s"}"#;
        let say = json!({ "id": 3, "method": "say", "params": { "line": question } });
        assert_eq!(a.ask(&say).to_string(), question);
        assert_eq!(a.next()["id"], 3);
        assert_eq!(b.line().unwrap(), question);
        // The first answer counts; the session hears which one it was.
        let heard = b.ask(&json!({ "id": 7, "result": "b", "sessionId": "s" }));
        assert_eq!(
            (&heard["method"], &heard["params"]["result"]),
            (&json!("heard"), &json!("b"))
        );
        assert_eq!(a.next()["method"], "heard");
        a.send(r#"{"id":7,"result":"a","sessionId":"s"}"#);
        a.nothing_before("x");
        b.nothing_before("y");
    });
}

#[test]
fn v22_v24_what_belongs_to_nobody_is_dropped_and_counted() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        for stray in [
            r#"{"method":"news"}"#,
            r#"{"method":"news","sessionId":"unknown"}"#,
            r#"{"id":99,"result":0}"#,
        ] {
            assert_eq!(client.call("say", &json!({ "line": stray })), "said");
        }
        assert_eq!(client.call("twice", &json!({})), 1);
        client.call("echo", &json!(0));
        let stats = client.ask(&json!({ "id": 1, "method": "stdio_bus/stats" }));
        assert_eq!(stats["result"]["dropped"], 4);
    });
}

#[test]
fn v26_equal_ids_at_the_same_time_do_not_mix() {
    for instances in [1, 2] {
        over(&SOCKETS, &one(instances), |bus| {
            let (mut a, mut b) = (bus.client(), bus.client());
            for _ in 0..3 {
                a.send(r#"{"id":1,"method":"later","params":{"ms":200}}"#);
                // So that the bus has read the first before the second.
                a.nothing_before("x");
                b.send(r#"{"id":1,"method":"echo","params":"b"}"#);
                let (to_b, to_a) = (b.next(), a.next());
                assert_eq!((&to_a["id"], &to_a["result"]), (&json!(1), &json!("late")));
                assert_eq!((&to_b["id"], &to_b["result"]), (&json!(1), &json!("b")));
            }
        });
    }
}

#[test]
fn v27_an_unanswered_id_steals_nothing() {
    over(&SOCKETS, &one(1), |bus| {
        let (mut a, mut b) = (bus.client(), bus.client());
        a.send(r#"{"id":9,"method":"silent"}"#);
        a.nothing_before("x");
        let answer = b.ask(&json!({ "id": 9, "method": "echo", "params": "b" }));
        assert_eq!((&answer["id"], &answer["result"]), (&json!(9), &json!("b")));
        a.nothing_before("y");
    });
}

#[test]
fn v28_unanswered_requests_harm_only_their_client() {
    over(&SOCKETS, &one(1), |bus| {
        let (mut a, mut b) = (bus.client(), bus.client());
        let lines: String = (0..5000)
            .map(|id| format!("{{\"id\":{id},\"method\":\"silent\"}}\n"))
            .collect();
        a.send_bytes(lines.as_bytes());
        for id in 4096..5000 {
            let refused = a.next();
            assert_eq!(
                (&refused["id"], fault(&refused)),
                (&json!(id), "TOO_MANY_PENDING")
            );
        }
        assert_eq!(b.call("echo", &json!("b")), "b");
    });
}

#[test]
fn v29_a_full_session_table_says_so() {
    let config = config(&[pool("p", 1)], &json!({ "max_sessions": 3 }));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        let ask = |n: u32| json!({ "id": n, "method": "m", "sessionId": format!("s{n}") });
        for n in 0..3 {
            assert_eq!(client.ask(&ask(n))["result"], "ok");
        }
        let refused = client.ask(&ask(3));
        assert_eq!(
            (&refused["id"], fault(&refused)),
            (&json!(3), "TOO_MANY_SESSIONS")
        );
        assert_eq!(client.ask(&ask(1))["result"], "ok");
    });
}

#[test]
fn v44_a_session_outlives_its_first_client() {
    over(&SOCKETS, &one(2), |bus| {
        let session = [json!({ "sessionId": "s" })];
        let mut a = bus.client();
        let first = who(&mut a, &session);
        let mut b = bus.client();
        drop(a.finish());
        let gone = |stats: &Value| stats["result"]["clientDisconnects"] == 1;
        eventually("the first client is gone", || {
            Some(b.ask(&json!({ "id": 1, "method": "stdio_bus/stats" }))).filter(gone)
        });
        assert_eq!(who(&mut b, &session), first);
    });
}

#[test]
fn v45_the_bus_says_hello_itself() {
    over(&ALL, &one(1), |bus| {
        let hello = json!({
            "jsonrpc": "2.0", "id": "u", "method": "stdio_bus/hello", "sessionId": "client-1",
            "params": { "protocolVersion": "0.1.0",
                        "extensions": { "identity": { "version": "0.1.0", "required": true } } },
        });
        let answer = bus.client().ask(&hello);
        assert_eq!(answer["result"]["negotiatedProtocolVersion"], "0.1.0");
        assert_eq!(answer["result"]["sessionId"], "client-1");
        assert_eq!(answer["result"]["extensions"]["identity"]["active"], true);
    });
}
