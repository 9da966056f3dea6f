//! Whose answer it is.

use super::*;

#[test]
fn ids_keep_their_text_and_their_type() {
    for id in [
        "1",
        "\"a\"",
        "1.5",
        "-3",
        "123456789012345678901234567890",
        r#""x\"y""#,
        "null",
    ] {
        let mut bench = Bench::one();
        let client = bench.client();
        bench.says(client, &format!(r#"{{"id":{id},"method":"m"}}"#));
        let reply = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1}}"#);
        bench.replies(0, &reply);
        assert_eq!(bench.sent_to_clients(), [(client, reply)]);
    }
}

#[test]
fn an_answer_of_the_wrong_type_is_put_right() {
    let mut bench = Bench::one();
    let client = bench.client();
    bench.says(client, r#"{"id":5,"method":"m"}"#);
    bench.replies(0, r#"{"result":[1], "id": "5" }"#);
    assert_eq!(
        bench.sent_to_clients(),
        [(client, r#"{"result":[1], "id": 5 }"#.to_owned())]
    );
}

#[test]
fn an_escaped_id_comes_back_as_it_was_written() {
    let mut bench = Bench::one();
    let client = bench.client();
    bench.says(client, r#"{"id":"\u0061","method":"m"}"#);
    bench.replies(0, r#"{"id":"a","result":1}"#);
    assert_eq!(
        bench.sent_to_clients(),
        [(client, r#"{"id":"\u0061","result":1}"#.to_owned())]
    );
}

#[test]
fn equal_ids_on_one_worker_do_not_mix() {
    let mut bench = Bench::one();
    let (a, b) = (bench.client(), bench.client());
    bench.says(a, r#"{"id":1,"method":"a"}"#);
    bench.says(b, r#"{"id":"1","method":"b"}"#);
    let sent = bench.sent_to_workers();
    assert_eq!(sent[0].1, r#"{"id":1,"method":"a"}"#);
    let minted: serde_json::Value = serde_json::from_str(&sent[1].1).unwrap();
    assert!(minted["id"].is_string(), "the type is kept: {minted}");
    bench.replies(0, &format!(r#"{{"id":{},"result":"b"}}"#, minted["id"]));
    bench.replies(0, r#"{"id":1,"result":"a"}"#);
    let want = [
        (b, r#"{"id":"1","result":"b"}"#.to_owned()),
        (a, r#"{"id":1,"result":"a"}"#.to_owned()),
    ];
    assert_eq!(bench.sent_to_clients(), want);
}

#[test]
fn one_client_may_use_an_id_twice() {
    let mut bench = Bench::one();
    let client = bench.client();
    bench.says(client, r#"{"id":1,"method":"m"}"#);
    bench.says(client, r#"{"id":1,"method":"m"}"#);
    for (_, line) in bench.sent_to_workers() {
        let id = serde_json::from_str::<serde_json::Value>(&line).unwrap()["id"].clone();
        bench.replies(0, &format!(r#"{{"id":{id},"result":0}}"#));
    }
    let want = (client, r#"{"id":1,"result":0}"#.to_owned());
    assert_eq!(bench.sent_to_clients(), [want.clone(), want]);
}

#[test]
fn a_late_answer_never_reaches_a_newer_request() {
    let mut bench = Bench::one();
    let (a, b) = (bench.client(), bench.client());
    bench.says(a, r#"{"id":9,"method":"m"}"#);
    bench.leaves(a);
    bench.sent_to_workers();
    bench.says(b, r#"{"id":9,"method":"m"}"#);
    let shown: serde_json::Value = serde_json::from_str(&bench.sent_to_workers()[0].1).unwrap();
    bench.replies(0, r#"{"id":9,"result":"late"}"#);
    assert!(bench.sent_to_clients().is_empty());
    bench.replies(0, &format!(r#"{{"id":{},"result":"mine"}}"#, shown["id"]));
    assert_eq!(
        bench.sent_to_clients(),
        [(b, r#"{"id":9,"result":"mine"}"#.to_owned())]
    );
}

#[test]
fn unknown_and_second_answers_are_dropped_and_counted() {
    let mut bench = Bench::one();
    let client = bench.client();
    bench.says(client, r#"{"id":1,"method":"m"}"#);
    bench.replies(0, r#"{"id":2,"result":0}"#);
    bench.replies(0, r#"{"id":1}"#);
    bench.replies(0, r#"{"id":1,"result":0}"#);
    bench.replies(0, r#"{"id":1,"result":0}"#);
    assert_eq!(bench.sent_to_clients().len(), 1);
    assert_eq!(bench.core.counters.dropped, 3);
}

#[test]
fn a_client_with_too_many_requests_harms_nobody_else() {
    let mut bench = Bench::new(&[1], r#""max_pending":100"#);
    let (a, b) = (bench.client(), bench.client());
    for id in 0..150 {
        bench.says(a, &format!(r#"{{"id":{id},"method":"m"}}"#));
    }
    let refused = bench.sent_to_clients();
    assert_eq!(refused.len(), 50);
    assert!(refused[0].1.contains("TOO_MANY_PENDING") && refused[0].1.contains("\"id\":100"));
    bench.says(b, r#"{"id":200,"method":"m"}"#);
    bench.replies(0, r#"{"id":200,"result":0}"#);
    assert_eq!(bench.sent_to_clients()[0].0, b);
}

#[test]
fn a_dead_workers_requests_are_answered_in_their_order() {
    let mut bench = Bench::one();
    let (a, b) = (bench.client(), bench.client());
    bench.says(a, r#"{"id":"x","method":"m"}"#);
    bench.says(b, r#"{"id":"x","method":"m"}"#);
    bench.dies(0);
    let out = bench.sent_to_clients();
    assert_eq!(out.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [a, b]);
    for (_, line) in out {
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["id"], "x");
        assert_eq!(answer["error"]["data"]["code"], "WORKER_DIED");
        assert_eq!(answer["error"]["data"]["pool"], "p");
    }
    assert_eq!(bench.core.in_flight(), 0);
}

#[test]
fn a_request_whose_time_is_over_is_answered_once() {
    let mut bench = Bench::new(&[1], r#""request_timeout_sec":2"#);
    let client = bench.client();
    bench.says(client, r#"{"id":1,"method":"m","sessionId":"s"}"#);
    bench.core.tick(1_999_999, &mut bench.tape);
    assert!(bench.sent_to_clients().is_empty());
    bench.core.tick(2_000_000, &mut bench.tape);
    let (answer, name) = bench.fault(client);
    assert_eq!(
        (answer["id"].as_u64(), name.as_str()),
        (Some(1), "TIMED_OUT")
    );
    bench.replies(0, r#"{"id":1,"result":0}"#);
    assert!(bench.sent_to_clients().is_empty());
    assert_eq!(bench.core.client(client).unwrap().in_flight, 0);
    assert_eq!(bench.core.in_flight(), 0);
}

#[test]
fn the_deadlines_of_answered_requests_are_not_kept() {
    let mut bench = Bench::new(&[1], r#""request_timeout_sec":60"#);
    let client = bench.client();
    bench.says(client, r#"{"id":"slow","method":"m"}"#);
    for id in 0..3 * crate::limits::DEADLINES_SWEPT {
        bench.says(client, &format!(r#"{{"id":{id},"method":"m"}}"#));
        bench.replies(0, &format!(r#"{{"id":{id},"result":0}}"#));
    }
    assert!(bench.core.deadlines.len() <= crate::limits::DEADLINES_SWEPT);
    bench.sent_to_clients();
    bench.core.tick(60_000_000, &mut bench.tape);
    let (answer, name) = bench.fault(client);
    assert_eq!(
        (answer["id"].as_str(), name.as_str()),
        (Some("slow"), "TIMED_OUT")
    );
}

#[test]
fn what_nobody_waits_for_is_remembered_within_bounds() {
    let mut bench = Bench::new(&[1], "");
    for id in 0..crate::limits::ABANDONED_REQUESTS * 2 {
        let client = bench.client();
        bench.says(client, &format!(r#"{{"id":{id},"method":"m"}}"#));
        bench.leaves(client);
    }
    let desk = &bench.core.worker(WorkerId(0)).desk;
    assert_eq!(desk.in_flight(), 0);
    assert!(format!("{desk:?}").matches("Pending").count() <= crate::limits::ABANDONED_REQUESTS);
}
