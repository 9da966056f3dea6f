//! `agentbus serve` over Kafka: what is asked of one bus is answered by an agent at another, and
//! the log is read without either.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on should say where, and one that is skipped that it was"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agentbus(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command
        .current_dir(dir)
        .env_remove("AGENTBUS_URL")
        .env_remove("AGENTBUS_TRANSPORT")
        .env("AGENTBUS_DATA_DIR", dir.join("data"));
    command
}

fn said(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8(text).unwrap()
}

/// Starts a bus over Kafka and returns its address.
fn serve(dir: &Path, transport: &str) -> (Running, String) {
    let mut server = agentbus(dir)
        .args(["serve", "--json", "--listen", "127.0.0.1:0"])
        .args(["--log", "warn", "--transport", transport])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut output = BufReader::new(server.stdout.take().unwrap());
    output.read_line(&mut first).unwrap();
    let server = Running(server);
    let started: Value = serde_json::from_str(&first).unwrap();
    (server, started["listening"].as_str().unwrap().to_owned())
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
    let (_server, url) = serve(dir.path(), &transport);
    let handle = ["handle", "count", "--", "wc", "-w"];
    let mut agent = agentbus(dir.path());
    agent
        .args(["--url", &url])
        .args(handle)
        .stderr(Stdio::piped());
    let mut agent = Running(agent.spawn().unwrap());
    let mut lines = BufReader::new(agent.0.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("serving count")));

    // One asks through the server, one goes to the brokers directly.
    for way in [["--url", &url], ["--transport", &transport]] {
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
        .args(["--url", &url, "pub", "kept", "7"])
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
