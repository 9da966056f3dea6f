//! `agentbus bench` counts events and calls, over a transport and on a running bus. What it counts
//! is not compared with anything: that depends on the machine.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/serving.rs"]
mod serving;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use serving::{SERVE, Serving, agentbus};

/// Measures for a second, and checks the shape of what is told.
#[track_caller]
fn measures(command: &mut Command) {
    let shown = command
        .args(["bench", "--json", "--seconds", "1", "--in-flight", "8"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&shown.stdout);
    let error = String::from_utf8_lossy(&shown.stderr);
    assert_eq!(shown.status.code(), Some(0), "{said}{error}");
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = lines.iter().map(|line| &line["what"]).collect();
    assert_eq!(names, ["events", "calls"]);
    for line in &lines {
        assert!(line["count"].as_u64().unwrap() > 0, "{line}");
        let number = |name: &str| line[name].as_f64().unwrap();
        assert!(number("per_second") > 0.0, "{line}");
        assert!(number("p50_us") <= number("p99_us"), "{line}");
        assert_eq!(line["errors"], 0, "{line}");
        assert_eq!(line["first_error"], Value::Null, "{line}");
    }
}

#[test]
fn memory_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    measures(agentbus(dir.path()).args(["--transport", "memory://"]));
}

#[test]
fn a_log_in_a_file_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    measures(agentbus(dir.path()).args(["--transport", "sqlite://bus.db"]));
}

#[test]
fn a_running_bus_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = agentbus(dir.path());
    let bus = Serving::start(serve.args(SERVE).args(["--log", "warn"]));
    measures(agentbus(dir.path()).env("AGENTBUS_URL", &bus.url));
}

#[test]
fn people_are_told_in_two_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = agentbus(dir.path());
    command.args(["bench", "--transport", "memory://", "--seconds", "1"]);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    for (line, what) in lines.iter().zip(["events ", "calls "]) {
        assert!(line.starts_with(what), "{line}");
        assert!(line.contains(" a second, p50 "), "{line}");
        assert!(line.ends_with("no errors"), "{line}");
    }
}

#[test]
fn absurd_values_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| -> Output {
        let mut command = agentbus(dir.path());
        command
            .args(["bench", "--transport", "memory://"])
            .args(args);
        command.output().unwrap()
    };
    for args in [
        ["--seconds", "0"],
        ["--seconds", "3600"],
        ["--payload", "1"],
        ["--payload", "1000000000"],
        ["--in-flight", "0"],
        ["--in-flight", "100000"],
    ] {
        let refused = run(&args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert_eq!(refused.stdout, b"", "{args:?}");
    }
    let refused = run(&["--payload", "1000000", "--in-flight", "1000"]);
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("lower --payload or --in-flight"), "{error}");
}

#[test]
fn a_bus_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let refused = agentbus(dir.path())
        .env("AGENTBUS_URL", "http://127.0.0.1:1")
        .arg("bench")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(4));
}

#[test]
fn ctrl_c_ends_it_with_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = agentbus(dir.path())
        .args([
            "bench",
            "--json",
            "--transport",
            "memory://",
            "--seconds",
            "5",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The first part is told when it is over, so the second one is under way.
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["what"], "events");
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", "INT", &id]).status();
    assert!(sent.unwrap().success());
    let second: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(second["what"], "calls");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
