//! The limits of a client's requests, sessions and connections, and how they are told.

use serde_json::json;

use crate::harness::*;

#[test]
fn work_goes_to_the_worker_with_the_least_of_it() {
    let mut pool = pool("p", 3);
    pool["balance"] = json!("least-loaded");
    over(&ALL, &config(&[pool], &json!({})), |bus| {
        let mut client = bus.client();
        for id in 0..2 {
            client.send(&json!({ "id": id, "method": "silent" }).to_string());
        }
        // Two of three are busy for ever, so that in turn would reach each of them.
        let idle = client.who(&json!({}));
        for _ in 0..6 {
            assert_eq!(client.who(&json!({})), idle);
        }
        let stats = client.stats();
        let in_flight: Vec<_> = (0..3_usize)
            .map(|n| &stats["workers"][n]["inFlight"])
            .collect();
        assert_eq!(in_flight, [&json!(1), &json!(1), &json!(0)]);
    });
}

#[test]
fn one_client_more_than_allowed_is_told_so_until_another_leaves() {
    let config = config(&[pool("p", 1)], &json!({ "max_clients": 2 }));
    over(&SOCKETS, &config, |bus| {
        let (mut a, mut b) = (bus.client(), bus.client());
        for client in [&mut a, &mut b] {
            assert_eq!(client.call("echo", &json!(1)), 1);
        }
        let mut third = bus.client();
        let refused = third.next();
        assert_eq!(
            (&refused["id"], fault(&refused)),
            (&json!(null), "TOO_MANY_CLIENTS")
        );
        assert_eq!(refused["error"]["data"]["retryable"], true);
        assert_eq!(third.line(), None, "closed");
        drop(a.finish());
        eventually("there is room", || {
            (b.stats()["clients"] == 1).then_some(())
        });
        assert_eq!(bus.client().call("echo", &json!(2)), 2);
        assert_eq!(b.call("echo", &json!(3)), 3);
    });
}

#[test]
fn a_session_name_has_at_most_4096_bytes() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        let ask =
            |length: usize| json!({ "id": length, "method": "m", "sessionId": "s".repeat(length) });
        assert_eq!(client.ask(&ask(4096))["result"], "ok");
        let refused = client.ask(&ask(4097));
        assert_eq!(
            (&refused["id"], fault(&refused)),
            (&json!(4097), "SESSION_NAME_TOO_LONG")
        );
        assert_eq!(refused["error"]["data"]["retryable"], false);
        assert_eq!(client.stats()["sessions"], 1);
    });
}

#[test]
fn a_request_that_takes_too_long_is_answered_and_its_late_answer_reaches_nobody() {
    let config = config(&[pool("p", 1)], &json!({ "request_timeout_sec": 3 }));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        let late = client.ask(&json!({ "id": "x", "method": "hold" }));
        assert_eq!((&late["id"], fault(&late)), (&json!("x"), "TIMED_OUT"));
        let data = &late["error"]["data"];
        assert_eq!(
            (&data["retryable"], &data["pool"], &data["instance"]),
            (&json!(true), &json!("p"), &json!(0))
        );
        // The worker answers both now, and both have the id that the client used twice.
        let answer = client.ask(&json!({ "id": "x", "method": "release" }));
        assert_eq!(
            (&answer["id"], &answer["result"]),
            (&json!("x"), &json!("released"))
        );
        let stats = client.stats();
        assert_eq!(
            (&stats["dropped"], &stats["inFlight"]),
            (&json!(1), &json!(0))
        );
    });
}
