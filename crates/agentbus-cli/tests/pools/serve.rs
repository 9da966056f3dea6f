//! Pools of `agentbus serve`: over the command line and HTTP, as targets like any other.

use serde_json::{Value, json};

use crate::harness::*;
use crate::host::{Host, file};
use crate::serving::agentbus;

#[test]
fn a_pool_is_a_target_like_any_other() {
    let host = Host::start(&file(2, ""));
    let echo = r#"{"method":"echo","params":{"x":1}}"#;
    assert_eq!(host.says(&["invoke", "p", echo]), r#"{"x":1}"#);
    let (status, body) = host.http("POST", "/v1/agents/p/invoke", echo);
    assert_eq!((status, body.as_str()), (200, r#"{"x":1}"#));
    // A session keeps its worker; without one, work goes round.
    let who = |args: &[&str]| host.says(&[&["invoke", "p", r#"{"method":"who"}"#], args].concat());
    let of_session = who(&["--session", "s"]);
    assert_eq!(who(&["--session", "s"]), of_session);
    assert_ne!(who(&[]), who(&[]));
    // A session in the payload counts where the envelope has none.
    let who = r#"{"method":"who","sessionId":"s"}"#;
    assert_eq!(host.says(&["invoke", "p", who]), of_session);
}

#[test]
fn errors_of_workers_and_of_the_pool_are_error_replies() {
    let host = Host::start(&file(1, ""));
    for (payload, exit, word) in [
        (r#"{"method":"refuse"}"#, 8, "no such thing"),
        (
            r#"{"method":"exit","params":{"code":3}}"#,
            8,
            "ended before it answered",
        ),
        (r#"{"x":1}"#, 8, "say which method of `p` to call"),
    ] {
        let output = host.run(&["invoke", "p", payload]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{payload}: {said}");
        assert!(said.contains(word), "{payload}: {said}");
    }
    let (status, body) = host.http("POST", "/v1/agents/p/invoke", r#"{"method":"refuse"}"#);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["code"]), (400, &json!("INVALID_REQUEST")));
    assert_eq!(body["cause"]["code"], -32602);
}

/// Such a result was told as `null` before, as if the worker had nothing to say.
#[test]
fn a_result_that_is_no_json_or_no_text_is_the_workers_fault() {
    for result in ["{bad}", r#""\xff""#] {
        let script = r#"s/.*"id":\([0-9]*\).*/{"id":\1,"result":RESULT}/"#;
        let script = script.replace("RESULT", result);
        let host = Host::start(&format!(
            "[[pools]]\nid = \"p\"\ncommand = \"sed\"\nargs = [\"-u\", '{script}']\ninstances = 1\n\
             env = {{ LC_ALL = \"C\" }}\n"
        ));
        let (status, body) = host.http("POST", "/v1/agents/p/invoke", r#"{"method":"m"}"#);
        assert_eq!(status, 502, "{result}: {body}");
        let said = "answer cannot be read";
        assert!(body.contains(said), "{result}: {body}");
    }
}

#[test]
fn a_payload_of_params_calls_the_pools_own_method() {
    let host = Host::start(&file(1, "method = \"echo\""));
    assert_eq!(
        host.says(&["invoke", "p", r#"{"text":"hi"}"#]),
        r#"{"text":"hi"}"#
    );
    assert_eq!(host.says(&["invoke", "p", r#"{"method":"stdio/x"}"#]), "ok");
}

#[test]
fn a_call_that_is_given_up_is_taken_back_from_its_worker() {
    let host = Host::start(&file(1, ""));
    for (payload, notified, member) in [
        (
            r#"{"method":"silent"}"#,
            "notifications/cancelled",
            "requestId",
        ),
        (
            r#"{"method":"session/prompt","params":{"sessionId":"acp-1"}}"#,
            "session/cancel",
            "sessionId",
        ),
    ] {
        let caller = host.open("POST", "/v1/agents/p/stream", payload);
        let in_flight = |count: u64| {
            let list = host.json(&["pool", "list", "--json"]);
            (list["pools"][0]["workers"][0]["in_flight"] == count).then_some(())
        };
        eventually("the worker has it", || in_flight(1));
        drop(caller);
        eventually("nobody waits for it", || in_flight(0));
        let notes = host.json(&["invoke", "p", r#"{"method":"notes"}"#]);
        let last = notes.as_array().unwrap().last().unwrap();
        assert_eq!(last["method"], notified, "{notes}");
        assert!(last["params"].get(member).is_some(), "{notes}");
    }
}

#[test]
fn a_worker_that_asks_is_told_that_nobody_can_answer() {
    let host = Host::start(&file(1, ""));
    let said = host.says(&["invoke", "--stream", "p", r#"{"method":"asks"}"#]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("may_i"), "{said}");
    assert!(
        lines[1].contains("-32025") && lines[1].contains(r#""id":"q""#),
        "{said}"
    );
}

#[test]
fn pools_of_a_file_that_nobody_named_are_not_started() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agentbus.toml"), file(1, "")).unwrap();
    let output = agentbus(dir.path())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("`pools`") && said.contains("--config agentbus.toml"),
        "{said}"
    );
}
