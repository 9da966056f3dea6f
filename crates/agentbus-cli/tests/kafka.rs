//! `agentbus serve` over Kafka: what is asked of one bus is answered by an agent at another, and
//! the log is read without either.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on should say where, and one that is skipped that it was"
)]

#[path = "support/serving.rs"]
mod serving;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};

use serving::{Running, SERVE, Serving, agentbus};

fn said(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8(text).unwrap()
}

/// Starts a bus over Kafka.
fn serve(dir: &Path, transport: &str) -> Serving {
    let mut serve = agentbus(dir);
    Serving::start(
        serve
            .args(SERVE)
            .args(["--log", "warn", "--transport", transport]),
    )
}

#[test]
fn a_call_goes_over_two_buses_and_an_event_stays_in_the_log() {
    let Ok(broker) = std::env::var("AGENTBUS_KAFKA_URL") else {
        eprintln!("skipped: AGENTBUS_KAFKA_URL is not set; `cargo xtask test` sets it");
        return;
    };
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let transport = format!("{broker}?namespace=cli-{}-{since}", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), &transport);
    let handle = ["handle", "count", "--", "wc", "-w"];
    let mut agent = agentbus(dir.path());
    agent
        .args(["--url", &server.url])
        .args(handle)
        .stderr(Stdio::piped());
    let mut agent = Running(agent.spawn().unwrap());
    let mut lines = BufReader::new(agent.0.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("serving count")));

    // One asks through the server, one goes to the brokers directly.
    for way in [["--url", &server.url], ["--transport", &transport]] {
        let mut command = agentbus(dir.path());
        let asked = match way[0] {
            "--url" => command.args(way).args(["invoke", "count", "\"a b c\""]),
            _ => command.args(["invoke", "count", "\"a b c\""]).args(way),
        };
        let answer = asked.output().unwrap();
        assert_eq!(said(&answer).trim(), "3");
    }
    let mut publish = agentbus(dir.path());
    let published = publish
        .args(["--url", &server.url, "pub", "kept", "7"])
        .output()
        .unwrap();
    assert!(published.status.success(), "{}", said(&published));
    let mut replay = agentbus(dir.path());
    let past = ["sub", "kept", "--from", "beginning", "--count", "1"];
    let seen = replay
        .args(past)
        .args(["--transport", &transport])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), "kept 7");
}
