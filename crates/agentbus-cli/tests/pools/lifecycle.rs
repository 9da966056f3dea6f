//! Workers that end, rave or do not end, and the end of the bus.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::*;

/// The moments at which a pool's script noted a start.
fn starts(bus: &Bus, wanted: usize) -> Vec<f64> {
    let path = bus.dir.path().join("starts");
    eventually("enough starts", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let times: Vec<f64> = text.lines().map(|line| line.parse().unwrap()).collect();
        (times.len() >= wanted).then_some(times)
    })
}

/// A pool whose workers note their start and then do something else.
fn noting(then: &str) -> Value {
    let script = format!("date +%s.%N >> starts; {then}");
    shell_pool("p", &script, 1)
}

#[test]
fn v30_v31_v37_whatever_ends_a_worker_its_requests_are_answered_and_it_comes_back() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        for (method, params, fault_name) in [
            ("exit", json!({ "code": 7 }), "WORKER_DIED"),
            ("exit", json!({ "code": 0 }), "WORKER_DIED"),
            ("garbage", json!({}), "BAD_WORKER_OUTPUT"),
            ("exit", json!({ "code": 7 }), "WORKER_DIED"),
        ] {
            let answer = client.ask(&json!({ "id": "x", "method": method, "params": params }));
            assert_eq!((&answer["id"], fault(&answer)), (&json!("x"), fault_name));
            assert_eq!(answer["error"]["data"]["retryable"], true);
            assert_eq!(client.ask_until_served()["result"], 1);
        }
    });
}

#[test]
fn v31_exit_code_0_may_be_left_alone_by_policy() {
    let mut pool = pool("p", 1);
    pool["restart"] = json!("on-failure");
    over(&ALL, &config(&[pool], &json!({})), |bus| {
        let mut client = bus.client();
        client.ask(&json!({ "id": 1, "method": "exit", "params": { "code": 0 } }));
        let answer = client.ask(&json!({ "id": 2, "method": "m" }));
        assert_eq!(fault(&answer), "POOL_GIVEN_UP");
    });
}

#[test]
fn v32_restarts_wait_longer_and_longer() {
    let limits = json!({ "restart_delay_ms": 100, "restart_delay_max_sec": 60, "max_restarts": 9 });
    over(&ALL, &config(&[noting("exit 1")], &limits), |bus| {
        let times = starts(bus, 5);
        let waits: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (wait, least) in waits.iter().zip([0.1, 0.2, 0.4, 0.8]) {
            assert!(*wait >= least, "{waits:?}");
        }
    });
}

#[test]
fn v33_a_worker_that_outlives_most_of_the_window_is_restarted_for_ever() {
    // In each window of one second it is restarted at most twice.
    let limits = json!({ "restart_delay_ms": 1, "max_restarts": 2, "restart_window_sec": 1 });
    let pool = noting("sleep 0.6; exit 1");
    over(&ALL, &config(&[pool], &limits), |bus| {
        starts(bus, 6);
    });
}

#[test]
fn a_worker_that_dies_too_often_is_given_up_and_the_answer_says_so() {
    let limits = json!({ "restart_delay_ms": 1, "max_restarts": 2 });
    over(&ALL, &config(&[noting("exit 1")], &limits), |bus| {
        let mut client = bus.client();
        let answer = eventually("the pool is given up", || {
            let answer = client.ask(&json!({ "id": 1, "method": "m" }));
            (fault(&answer) == "POOL_GIVEN_UP").then_some(answer)
        });
        assert_eq!(answer["error"]["data"]["pool"], "p");
        assert_eq!(starts(bus, 3).len(), 3);
        let health = client.ask(&json!({ "id": 2, "method": "stdio_bus/health" }));
        assert_eq!(health["result"]["healthy"], false);
    });
}

#[test]
fn v38_what_is_under_way_is_finished_before_the_end() {
    let config = config(&[pool("p", 1)], &json!({ "drain_timeout_sec": 20 }));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        client.send(r#"{"id":1,"method":"later","params":{"ms":600}}"#);
        client.nothing_before("read");
        bus.signal("-TERM");
        eventually("new work is refused", || {
            let answer = client.ask(&json!({ "id": "new", "method": "m" }));
            (fault(&answer) == "SHUTTING_DOWN").then_some(())
        });
        assert_eq!(client.next()["result"], "late");
        assert_eq!(client.line(), None);
        assert_eq!(bus.ended().code(), Some(0));
    });
}

#[test]
fn v38_a_worker_deaf_to_signals_ends_with_its_work_and_is_not_waited_for() {
    let script = r#"trap '' TERM; while read -r line; do : > begun; sleep 0.5; echo "$line" | sed 's/"method":"m"/"result":{}/'; done"#;
    let config = config(
        &[shell_pool("p", script, 1)],
        &json!({ "drain_timeout_sec": 20 }),
    );
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        client.send(r#"{"id":1,"method":"m"}"#);
        let begun = bus.dir.path().join("begun");
        eventually("the worker has it", || begun.exists().then_some(()));
        bus.signal("-TERM");
        assert_eq!(client.line().unwrap(), r#"{"id":1,"result":{}}"#);
        let answered = Instant::now();
        assert_eq!(bus.ended().code(), Some(0));
        let waited = answered.elapsed();
        assert!(
            waited < Duration::from_secs(15),
            "it waited for nothing: {waited:?}"
        );
    });
}

#[test]
fn v38_what_two_pools_have_and_what_waits_for_them_is_answered_before_the_end() {
    let config = config(
        &[pool("a", 1), pool("b", 1)],
        &json!({ "drain_timeout_sec": 30 }),
    );
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        for pool in ["a", "b"] {
            client.ask(&json!({ "id": 0, "method": "m", "pool": pool }));
        }
        // They take nothing until they are let go on, so all of it waits.
        let workers = bus.children();
        assert_eq!(workers.len(), 2);
        workers.iter().for_each(|worker| signal(*worker, "-STOP"));
        let mut open = Vec::new();
        for number in 0..5 {
            for pool in ["a", "b"] {
                let id = format!("{pool}{number}");
                let request = json!({ "id": id, "method": "echo", "params": id, "pool": pool });
                client.send(&request.to_string());
                open.push(id);
            }
        }
        client.nothing_before("read");
        bus.signal("-TERM");
        eventually("the bus has heard it", || {
            let health = client.ask(&json!({ "id": "h", "method": "stdio_bus/health" }));
            (health["result"]["stopping"] == true).then_some(())
        });
        let refused = client.ask(&json!({ "id": "new", "method": "m", "pool": "a" }));
        assert_eq!(fault(&refused), "SHUTTING_DOWN");
        workers.iter().for_each(|worker| signal(*worker, "-CONT"));
        while !open.is_empty() {
            let answer = client.next();
            assert_eq!(answer["result"], answer["id"]);
            open.retain(|id| answer["id"] != *id);
        }
        assert_eq!(client.line(), None);
        assert_eq!(bus.ended().code(), Some(0));
        eventually("nothing is left", || bus.family().is_empty().then_some(()));
    });
}

#[test]
fn v38_what_is_not_done_in_time_is_answered_with_an_error() {
    let config = config(&[pool("p", 2)], &json!({ "drain_timeout_sec": 1 }));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        for id in 0..2 {
            client.send(&json!({ "id": id, "method": "silent" }).to_string());
        }
        client.nothing_before("read");
        bus.signal("-TERM");
        let (first, second) = (client.next(), client.next());
        for answer in [&first, &second] {
            assert_eq!(fault(answer), "SHUTTING_DOWN");
            assert_eq!(answer["error"]["data"]["retryable"], true);
        }
        assert_ne!(first["id"], second["id"]);
        assert_eq!(client.line(), None);
        assert_eq!(bus.ended().code(), Some(0));
        eventually("nothing is left", || bus.family().is_empty().then_some(()));
    });
}

#[test]
fn v39_a_worker_that_ignores_the_signal_is_killed_in_time() {
    let script = "trap '' TERM; while :; do sleep 1000; done";
    let pool = shell_pool("p", script, 1);
    let config = config(&[pool], &json!({ "drain_timeout_sec": 1 }));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        client.nothing_before("up");
        let begun = Instant::now();
        bus.signal("-TERM");
        assert_eq!(bus.ended().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(20));
        eventually("nothing is left", || bus.family().is_empty().then_some(()));
    });
}

#[test]
fn v40_the_end_of_input_is_the_end_after_the_answers() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        client.send(r#"{"id":1,"method":"later","params":{"ms":200}}"#);
        // Also a last line without its newline counts.
        client.send_bytes(br#"{"id":2,"method":"echo","params":2}"#);
        let lines = client.finish();
        let said: Vec<String> = lines.iter().collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[1].contains("late"), "{said:?}");
        match bus.via {
            Via::Stdio => assert_eq!(bus.ended().code(), Some(0)),
            _ => assert_eq!(bus.client().call("echo", &json!(3)), 3),
        }
    });
}

#[test]
fn v40_fifty_answers_are_outstanding_at_the_end_of_input_and_none_is_lost() {
    over(
        &ALL,
        &config(&[shell_pool("p", SED, 1)], &json!({})),
        |bus| {
            let mut client = bus.client();
            for id in 0..50 {
                client.send(&format!(r#"{{"id":{id},"method":"m"}}"#));
            }
            let said: Vec<String> = client.finish().iter().collect();
            let wanted = (0..50).map(|id| format!(r#"{{"id":{id},"result":{{}}}}"#));
            assert_eq!(said, wanted.collect::<Vec<_>>());
            if bus.via == Via::Stdio {
                assert_eq!(bus.ended().code(), Some(0));
            }
        },
    );
}

#[test]
fn a_second_signal_ends_at_once() {
    let config = config(&[pool("p", 1)], &json!({ "drain_timeout_sec": 1000 }));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        client.send(r#"{"id":1,"method":"silent"}"#);
        client.nothing_before("read");
        bus.signal("-TERM");
        eventually("the first is taken", || {
            let answer = client.ask(&json!({ "id": "new", "method": "m" }));
            (fault(&answer) == "SHUTTING_DOWN").then_some(())
        });
        bus.signal("-TERM");
        assert_eq!(bus.ended().code(), Some(0));
        eventually("nothing is left", || bus.family().is_empty().then_some(()));
    });
}

#[test]
fn a_handshake_comes_before_work_and_a_refused_one_is_tried_again() {
    let mut shaken = pool("p", 1);
    shaken["handshake"] = json!({ "method": "echo", "params": [1], "then_notify": "initialized" });
    over(&ALL, &config(&[shaken], &json!({})), |bus| {
        assert_eq!(bus.client().call("echo", &json!(5)), 5);
    });
    // It answers the handshake with an error, and never gets work.
    let refuse = r#"date +%s.%N >> starts; read -r line; echo '{"id":"agentbus:handshake","error":{"code":1,"message":"no"}}'; sleep 1000"#;
    let mut refusing = shell_pool("p", refuse, 1);
    refusing["handshake"] = json!({ "method": "initialize", "timeout_sec": 30 });
    over(&[Via::Unix], &config(&[refusing], &json!({})), |bus| {
        starts(bus, 3);
    });
}

#[test]
fn a_worker_sleeps_when_nobody_needs_it_and_wakes_when_somebody_does() {
    let mut sleepy = pool("p", 1);
    sleepy["hibernate_after_sec"] = json!(1);
    over(&ALL, &config(&[sleepy], &json!({})), |bus| {
        let mut client = bus.client();
        let session = json!({ "id": 1, "method": "who", "sessionId": "s" });
        let first = client.ask(&session)["result"].clone();
        eventually("it sleeps", || {
            let stats = client.ask(&json!({ "id": 2, "method": "stdio_bus/stats" }));
            (stats["result"]["workers"][0]["state"] == "asleep").then_some(())
        });
        let second = client.ask(&session)["result"].clone();
        assert!(second.is_u64() && second != first, "{first} {second}");
    });
}

#[test]
fn a_worker_is_replaced_after_so_many_requests_and_none_is_lost() {
    let mut tiring = pool("p", 2);
    tiring["max_requests"] = json!(20);
    over(&[Via::Unix], &config(&[tiring], &json!({})), |bus| {
        let mut client = bus.client();
        let mut seen = std::collections::HashSet::new();
        eventually("four processes have answered", || {
            let answer = client.ask(&json!({ "id": 1, "method": "who" }));
            seen.insert(answer["result"].as_u64().unwrap());
            (seen.len() >= 4).then_some(())
        });
    });
}
