//! Where a client's message goes.

use super::*;

/// Sends these lines from one client and returns the workers they reached.
#[track_caller]
fn check(sizes: &[u32], lines: &[&str], want: &[u32]) {
    let mut bench = Bench::new(sizes, "");
    let client = bench.client();
    for line in lines {
        bench.says(client, line);
    }
    let out = bench.sent_to_workers();
    let reached: Vec<u32> = out.iter().map(|(worker, _)| *worker).collect();
    assert_eq!(reached, want, "{:?}", bench.sent_to_clients());
    for (line, (_, sent)) in lines.iter().zip(&out) {
        assert_eq!(line, sent, "bytes pass unchanged");
    }
}

#[test]
fn bytes_pass_unchanged() {
    let lines = [
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
        r#" {"id" : "x\"y","method":"m", "params":[tru]} "#,
        r#"{"id":2}"#,
        "{}",
        "{\"id\":123456789012345678901234567890,\"method\":\"m\"}\r",
    ];
    check(&[1], &lines, &[0, 0, 0, 0, 0]);
}

#[test]
fn work_without_a_session_goes_round() {
    let lines: Vec<String> = (0..6)
        .map(|id| format!(r#"{{"id":{id},"method":"m"}}"#))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    check(&[3], &lines, &[0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_session_stays_with_its_worker() {
    let line = |id, name| format!(r#"{{"id":{id},"method":"m","sessionId":"{name}"}}"#);
    let lines: Vec<String> = (0..9).map(|id| line(id, ["a", "b", "c"][id % 3])).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    check(&[3], &lines, &[0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn only_a_top_level_session_with_a_name_counts() {
    let lines = [
        r#"{"id":1,"method":"m","params":{"sessionId":"a"}}"#,
        r#"{"id":2,"method":"m","params":{"sessionId":"a"}}"#,
        r#"{"id":3,"method":"m","sessionId":7}"#,
        r#"{"id":4,"method":"m","sessionId":""}"#,
    ];
    check(&[2], &lines, &[0, 1, 0, 1]);
}

#[test]
fn the_session_outweighs_the_pool() {
    let lines = [
        r#"{"id":1,"method":"m","sessionId":"s","pool":"q"}"#,
        r#"{"id":2,"method":"m","sessionId":"s","pool":"p"}"#,
        r#"{"id":3,"method":"m","sessionId":"s","pool":"nope"}"#,
        r#"{"id":4,"method":"m","sessionId":"s"}"#,
        r#"{"id":5,"method":"m","pool":"p"}"#,
    ];
    check(&[1, 1], &lines, &[1, 1, 1, 1, 0]);
}

#[test]
fn a_pool_that_cannot_be_told_is_an_error_with_the_id() {
    let mut bench = Bench::new(&[1, 1], "");
    let client = bench.client();
    bench.says(client, r#"{"id":"a","method":"m"}"#);
    let (answer, name) = bench.fault(client);
    assert_eq!(
        (answer["id"].as_str(), name.as_str()),
        (Some("a"), "POOL_MISSING")
    );
    assert_eq!(
        answer["error"]["data"]["pools"],
        serde_json::json!(["p", "q"])
    );
    bench.says(client, r#"{"id":7,"method":"m","pool":"nope"}"#);
    let (answer, name) = bench.fault(client);
    assert_eq!(
        (answer["id"].as_u64(), name.as_str()),
        (Some(7), "POOL_UNKNOWN")
    );
    bench.says(client, r#"{"id":8,"method":"m","agentId":"nope"}"#);
    assert_eq!(bench.fault(client).1, "POOL_MISSING");
    assert!(bench.sent_to_workers().is_empty());
}

#[test]
fn an_agent_is_a_pool_by_name_or_by_list() {
    let config = br#"{"pools":[{"id":"p","command":"c","instances":1},
        {"id":"q","command":"c","instances":1,"agents":["writer"]}]}"#;
    let mut bench = Bench::new(&[1, 1], "");
    bench.core = Core::new(&Config::parse(config).unwrap(), 0);
    let client = bench.client();
    bench.says(client, r#"{"id":1,"method":"m","agentId":"writer"}"#);
    bench.says(client, r#"{"id":2,"method":"m","agentId":"p"}"#);
    let reached: Vec<u32> = bench
        .sent_to_workers()
        .iter()
        .map(|(worker, _)| *worker)
        .collect();
    assert_eq!(reached, [1, 0]);
}

#[test]
fn two_entries_of_one_name_are_one_pool_that_must_be_named() {
    let entry = r#"{"id":"p","command":"c","instances":1}"#;
    let config = format!(r#"{{"pools":[{entry},{entry}]}}"#);
    let mut bench = Bench::one();
    bench.core = Core::new(&Config::parse(config.as_bytes()).unwrap(), 0);
    let client = bench.client();
    bench.says(client, r#"{"id":1,"method":"m"}"#);
    assert_eq!(bench.fault(client).1, "POOL_MISSING");
    bench.says(client, r#"{"id":2,"method":"m","pool":"p"}"#);
    bench.says(client, r#"{"id":3,"method":"m","pool":"p"}"#);
    let reached: Vec<u32> = bench
        .sent_to_workers()
        .iter()
        .map(|(worker, _)| *worker)
        .collect();
    assert_eq!(reached, [0, 1]);
}

#[test]
fn a_line_that_is_no_object_is_answered_without_an_id() {
    for line in [
        "not json",
        "[1,2]",
        "null",
        "\"s\"",
        r#"{"id":1"#,
        "   ",
        r#"{"id":3} x"#,
    ] {
        let mut bench = Bench::one();
        let client = bench.client();
        bench.says(client, line);
        let (answer, _) = bench.fault(client);
        assert_eq!(answer["error"]["code"], -32700, "{line}");
        assert!(answer["id"].is_null());
    }
}

#[test]
fn empty_lines_are_nothing() {
    let mut bench = Bench::one();
    let client = bench.client();
    bench.says(client, "");
    bench.says(client, "\r");
    assert!(bench.sent_to_clients().is_empty() && bench.sent_to_workers().is_empty());
}

#[test]
fn congested_and_retiring_workers_come_last() {
    let mut bench = Bench::new(&[3], "");
    let client = bench.client();
    bench.core.worker_mut(WorkerId(0)).congested = true;
    bench.core.worker_mut(WorkerId(1)).retiring = true;
    for id in 0..3 {
        bench.says(client, &format!(r#"{{"id":{id},"method":"m"}}"#));
    }
    let reached: Vec<u32> = bench
        .sent_to_workers()
        .iter()
        .map(|(worker, _)| *worker)
        .collect();
    assert_eq!(reached, [2, 2, 2]);
}

#[test]
fn a_sleeping_worker_is_woken_by_its_session() {
    let mut bench = Bench::one();
    let client = bench.client();
    bench.core.worker_mut(WorkerId(0)).reach = Reach::Asleep;
    bench.says(client, r#"{"id":1,"method":"m","sessionId":"s"}"#);
    assert_eq!(bench.core.woken, [WorkerId(0)]);
    assert_eq!(bench.core.worker(WorkerId(0)).reach, Reach::Starting);
    assert_eq!(bench.sent_to_workers().len(), 1);
}

#[test]
fn nobody_to_ask_is_an_error_that_says_whether_to_wait() {
    let mut bench = Bench::one();
    let client = bench.client();
    bench.core.worker_mut(WorkerId(0)).reach = Reach::Down;
    bench.says(client, r#"{"id":1,"method":"m","sessionId":"s"}"#);
    assert_eq!(bench.fault(client).1, "NO_WORKER");
    bench.core.worker_mut(WorkerId(0)).reach = Reach::GivenUp;
    bench.says(client, r#"{"id":1,"method":"m"}"#);
    assert_eq!(bench.fault(client).1, "POOL_GIVEN_UP");
    bench.core.stopping = true;
    bench.says(client, r#"{"id":1,"method":"m"}"#);
    assert_eq!(bench.fault(client).1, "SHUTTING_DOWN");
    bench.says(client, r#"{"method":"m"}"#);
    assert!(
        bench.sent_to_clients().is_empty(),
        "nobody answers a notification"
    );
    assert_eq!(bench.core.counters.dropped, 1);
}

#[test]
fn a_session_outlives_its_first_client() {
    let mut bench = Bench::new(&[2], "");
    let (first, second) = (bench.client(), bench.client());
    bench.says(first, r#"{"id":1,"method":"m","sessionId":"s"}"#);
    bench.leaves(first);
    bench.says(second, r#"{"id":1,"method":"m","sessionId":"s"}"#);
    let reached: Vec<u32> = bench
        .sent_to_workers()
        .iter()
        .map(|(worker, _)| *worker)
        .collect();
    assert_eq!(reached, [0, 0]);
}

#[test]
fn a_full_session_table_refuses_until_an_idle_one_expires() {
    let mut bench = Bench::new(&[1], r#""max_sessions":2,"session_idle_sec":10"#);
    let client = bench.client();
    let open = |name| format!(r#"{{"id":"{name}","method":"m","sessionId":"{name}"}}"#);
    bench.says(client, &open("a"));
    bench.says(client, &open("b"));
    bench.says(client, &open("c"));
    let (answer, name) = bench.fault(client);
    assert_eq!(
        (answer["id"].as_str(), name.as_str()),
        (Some("c"), "TOO_MANY_SESSIONS")
    );
    // A session with an unanswered request never expires; b's is answered here.
    bench.replies(0, r#"{"id":"b","result":1}"#);
    bench.now += 11_000_000;
    bench.sent_to_clients();
    bench.says(client, &open("c"));
    assert!(bench.sent_to_clients().is_empty());
    assert_eq!(bench.core.session_count(), 2);
    assert!(bench.core.sessions.find("a").is_some());
}
