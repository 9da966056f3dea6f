//! Looking after the pools of a running bus: what is shown, what is ordered, what is measured, and
//! what becomes of the work when the bus is told to end.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::*;
use crate::host::{Host, file, read};

#[test]
fn pools_are_listed_restarted_drained_and_read() {
    let mut host = Host::start(&file(2, ""));
    let before = host.workers();
    let line = |instance: usize| {
        let pid = before[instance];
        format!(
            "  {instance}  running, process {pid}, epoch 1, 0 in flight, 0 answered, 0 bytes waiting"
        )
    };
    let list = format!("p: running\n{}\n{}", line(0), line(1));
    assert_eq!(host.says(&["pool", "list"]), list);
    host.says(&[
        "invoke",
        "p",
        r#"{"method":"complain","params":{"text":"ouch"}}"#,
    ]);
    eventually("the log has it", || {
        (host.says(&["pool", "logs", "p"]) == "0: ouch").then_some(())
    });
    assert_eq!(
        host.json(&["pool", "logs", "p", "--json"]),
        json!({ "lines": [{ "instance": 0, "line": "ouch" }] })
    );
    assert_eq!(
        host.says(&["pool", "restart", "p"]),
        "p: restarting, each worker once it has no work"
    );
    eventually("both are replaced", || {
        let now = host.workers();
        (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
    });
    assert_eq!(host.says(&["pool", "drain", "p"]), "p: drained");
    assert_eq!(host.says(&["pool", "list"]), "p: drained");
    let refused = host.run(&["invoke", "p", r#"{"method":"m"}"#]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("agentbus pool restart p"));
    host.says(&["pool", "restart", "p"]);
    assert_eq!(host.says(&["invoke", "p", r#"{"method":"m"}"#]), "ok");
    let workers = host.workers();
    host.terminate();
    assert_eq!(host.ended(&workers), Some(0));
}

#[test]
fn pools_are_looked_after_over_http_as_well() {
    let host = Host::start(&file(1, ""));
    let list = || -> Value { serde_json::from_str(&host.http("GET", "/v1/pools", "").1).unwrap() };
    assert_eq!(list()["pools"][0]["state"], "running");
    assert_eq!(host.http("POST", "/v1/pools/p/drain", "").0, 200);
    assert_eq!(list()["pools"][0]["state"], "drained");
    let figures = host.http("GET", "/metrics", "").1;
    assert!(
        figures.contains(r#"agentbus_pool_up{pool="p"} 0"#),
        "{figures}"
    );
    assert_eq!(host.http("POST", "/v1/pools/p/restart", "").0, 200);
    assert_eq!(host.says(&["invoke", "p", r#"{"method":"m"}"#]), "ok");
    let (status, logs) = host.http("GET", "/v1/pools/p/logs", "");
    assert_eq!((status, logs.as_str()), (200, r#"{"lines":[]}"#));
}

#[test]
fn an_order_for_a_pool_that_is_not_there_names_those_that_are() {
    let host = Host::start(&file(1, ""));
    for verb in ["restart", "drain", "logs"] {
        let output = host.run(&["pool", verb, "q"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{verb}: {said}");
        assert!(
            said.contains("there is no pool `q`; there is p"),
            "{verb}: {said}"
        );
        let method = if verb == "logs" { "GET" } else { "POST" };
        let (status, body) = host.http(method, &format!("/v1/pools/q/{verb}"), "");
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("there is no pool `q`; there is p"), "{body}");
    }
}

#[test]
fn a_bus_without_pools_has_an_empty_list_of_them() {
    let host = Host::start("");
    for (arguments, code) in [
        (["pool", "list"].as_slice(), 0),
        (&["pool", "drain", "p"], 6),
    ] {
        let output = host.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(output.stdout.is_empty());
        assert!(
            said.contains("add [[pools]] to its configuration"),
            "{said}"
        );
    }
    let none = host.json(&["pool", "list", "--json"]);
    assert_eq!(none, json!({ "pools": [] }));
}

/// What `/metrics` says of the one worker of `p`.
struct Figures(String);

impl Figures {
    fn of(host: &Host) -> Self {
        Self(host.http("GET", "/metrics", "").1)
    }

    /// A figure by the rest of its name and its further labels.
    #[track_caller]
    fn get(&self, name: &str, labels: &str) -> f64 {
        let start = format!("agentbus_pool_{name}{{pool=\"p\",instance=\"0\"{labels}}} ");
        let found = self.0.lines().find_map(|line| line.strip_prefix(&*start));
        let number = found.unwrap_or_else(|| panic!("{start} is not in\n{}", self.0));
        number.parse().unwrap()
    }

    /// Answers that took at most so many seconds.
    #[track_caller]
    fn within(&self, seconds: &str) -> f64 {
        self.get("latency_seconds_bucket", &format!(",le=\"{seconds}\""))
    }

    /// Messages and bytes to the worker, then those from it.
    fn traffic(&self) -> [f64; 4] {
        [
            self.get("messages_total", r#",direction="in""#),
            self.get("bytes_total", r#",direction="in""#),
            self.get("messages_total", r#",direction="out""#),
            self.get("bytes_total", r#",direction="out""#),
        ]
    }

    fn state(&self) -> [f64; 5] {
        let states = ["running", "starting", "asleep", "restarting", "given_up"];
        states.map(|state| self.get("worker_state", &format!(r#",state="{state}""#)))
    }
}

const RUNNING: [f64; 5] = [1.0, 0.0, 0.0, 0.0, 0.0];

#[test]
fn figures_move_by_what_was_done() {
    let host = Host::start(&file(1, ""));
    let figures = Figures::of(&host);
    assert_eq!(figures.state(), RUNNING);
    assert_eq!(figures.traffic(), [0.0; 4]);
    let counts = ["epoch", "restarts_total", "in_flight", "dropped_total"];
    let counted = |figures: &Figures| counts.map(|name| figures.get(name, ""));
    assert_eq!(counted(&figures), [1.0, 0.0, 0.0, 0.0]);
    // The worker tells what it was sent, so that the bytes of both directions are known.
    let sent = host.says(&["invoke", "p", r#"{"method":"raw"}"#]);
    let id = serde_json::from_str::<Value>(&sent).unwrap()["id"].clone();
    let answer = json!({ "jsonrpc": "2.0", "id": id, "result": sent }).to_string();
    let figures = Figures::of(&host);
    let bytes = [sent.len() as f64, answer.len() as f64];
    assert_eq!(figures.traffic(), [1.0, bytes[0], 1.0, bytes[1]]);
    let quick = figures.within("0.262144");
    let stall = r#"{"method":"stall","params":{"ms":300}}"#;
    host.says(&["invoke", "p", stall]);
    let figures = Figures::of(&host);
    assert_eq!(figures.get("latency_seconds_count", ""), 2.0);
    assert_eq!(figures.within("+Inf"), 2.0);
    assert_eq!(figures.within("0.262144"), quick, "it took 0.3 s");
    let bounds = (0..32).map(|power| ((1_u64 << power) as f64 / 1e6).to_string());
    let below: Vec<f64> = bounds.map(|bound| figures.within(&bound)).collect();
    assert!(below.is_sorted(), "{below:?}");
    // The second of its two answers reaches nobody.
    host.says(&["invoke", "p", r#"{"method":"twice"}"#]);
    eventually("it is counted", || {
        (Figures::of(&host).get("dropped_total", "") == 1.0).then_some(())
    });
    host.run(&["invoke", "p", r#"{"method":"exit"}"#]);
    eventually("it is back", || {
        (Figures::of(&host).state() == RUNNING).then_some(())
    });
    assert_eq!(counted(&Figures::of(&host)), [2.0, 1.0, 0.0, 1.0]);
}

#[test]
fn figures_tell_what_a_worker_has_and_what_waits_for_it() {
    let host = Host::start(&file(1, ""));
    let worker = host.workers()[0];
    signal(worker, "-STOP");
    // More than a pipe holds, and less than the bus lets wait.
    let body = json!({ "method": "echo", "params": "x".repeat(500_000) }).to_string();
    let calls: Vec<TcpStream> = (0..3)
        .map(|_| host.open("POST", "/v1/agents/p/invoke", &body))
        .collect();
    host.all_have(3);
    let figures = Figures::of(&host);
    assert_eq!(figures.get("in_flight", ""), 3.0);
    assert!(figures.get("queued_bytes", "") > 0.0, "{}", figures.0);
    signal(worker, "-CONT");
    for call in calls {
        assert_eq!(read(call).0, 200);
    }
    let figures = Figures::of(&host);
    assert_eq!(figures.get("in_flight", ""), 0.0);
    assert_eq!(figures.get("queued_bytes", ""), 0.0);
}

/// The file of two pools `p` and `q` of one scripted worker each.
fn two_pools() -> String {
    let (first, limits) = file(1, "").split_once("[pool_limits]").map(both).unwrap();
    let second = first.replace("\"p\"", "\"q\"");
    format!("{first}{second}[pool_limits]{limits}")
}

fn both((first, second): (&str, &str)) -> (String, String) {
    (first.to_owned(), second.to_owned())
}

#[test]
fn whatever_two_pools_have_and_what_waits_for_them_is_answered_before_the_end() {
    // Neither the bus nor its pools give up what they have before the test would have failed.
    let pools = two_pools().replace("drain_timeout_sec = 10", "drain_timeout_sec = 50");
    let mut host = Host::start(&format!("drain_s = 50\n{pools}"));
    let workers = host.workers();
    assert_eq!(workers.len(), 2);
    workers.iter().for_each(|worker| signal(*worker, "-STOP"));
    let ask = |pool: &str, number: usize| {
        let body = json!({ "method": "echo", "params": [pool, number] }).to_string();
        host.open("POST", &format!("/v1/agents/{pool}/invoke"), &body)
    };
    let calls: Vec<(String, TcpStream)> = (0..5)
        .flat_map(|number| ["p", "q"].map(|pool| (pool, number)))
        .map(|(pool, number)| (format!("[\"{pool}\",{number}]"), ask(pool, number)))
        .collect();
    host.all_have(5);
    let begun = Instant::now();
    host.terminate();
    eventually("nobody is let in any more", || {
        TcpStream::connect(host.address()).is_err().then_some(())
    });
    workers.iter().for_each(|worker| signal(*worker, "-CONT"));
    for (wanted, call) in calls {
        assert_eq!(read(call), (200, wanted));
    }
    assert_eq!(host.ended(&workers), Some(0));
    let waited = begun.elapsed();
    assert!(
        waited < Duration::from_secs(45),
        "drain_s is 50: {waited:?}"
    );
}

#[test]
fn a_call_that_does_not_end_is_answered_when_the_time_to_drain_is_over() {
    let mut host = Host::start(&format!("drain_s = 1\n{}", file(1, "")));
    let workers = host.workers();
    let silent = r#"{"method":"silent"}"#;
    let invoked = host.open("POST", "/v1/agents/p/invoke", silent);
    let streamed = host.open("POST", "/v1/agents/p/stream", silent);
    host.all_have(2);
    host.terminate();
    let (status, body) = read(invoked);
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &told["code"]), (502, &json!("AGENT_UNAVAILABLE")));
    let (_, events) = read(streamed);
    for said in [&body, &events] {
        assert!(said.contains("ask again once it is back"), "{said}");
    }
    assert_eq!(host.ended(&workers), Some(0));
}
