//! A bus of each test's own, and the programs that are run at it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::serving::{SERVE, Serving, agentbus};

/// Longest that anything may take. Nothing waits this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A bus of its own on a free port, ended with the test.
pub(crate) struct Bus {
    pub(crate) server: Serving,
    pub(crate) dir: tempfile::TempDir,
}

impl Bus {
    pub(crate) fn start() -> Self {
        Self::configured(tempfile::tempdir().unwrap(), "")
    }

    pub(crate) fn configured(dir: tempfile::TempDir, config: &str) -> Self {
        let file = dir.path().join("bus.toml");
        std::fs::write(&file, config).unwrap();
        let mut serve = agentbus(dir.path());
        serve
            .args(SERVE)
            .args(["--log", "warn", "--config"])
            .arg(file);
        let server = Serving::start(&mut serve);
        Self { server, dir }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = agentbus(self.dir.path());
        command.env("AGENTBUS_URL", &self.server.url).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn says(&self, args: &[&str], want: &str) {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.trim_end(), want, "{args:?}: {error}");
        assert!(output.status.success(), "{args:?}: {error}");
    }

    /// Starts a program that stays, and waits until it says that it is ready.
    pub(crate) fn background(&self, args: &[&str], ready: &str) -> Background {
        let mut child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(ready) {
            line.clear();
            assert_ne!(
                stderr.read_line(&mut line).unwrap(),
                0,
                "{args:?} ended early"
            );
        }
        Background { child }
    }

    pub(crate) fn stop(mut self) -> i32 {
        terminate(&self.server.process.0);
        self.server.process.0.wait().unwrap().code().unwrap()
    }
}

pub(crate) struct Background {
    pub(crate) child: Child,
}

impl Background {
    pub(crate) fn output(mut self) -> String {
        let mut text = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn terminate(child: &Child) {
    signal(child, "TERM");
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Asks the bus how many requests it has handed to a target's agents, and how many wait.
pub(crate) fn queue(bus: &Bus, target: &str) -> (u64, u64) {
    let token = String::from_utf8(bus.run(&["token"]).stdout).unwrap();
    let host = bus.server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let token = token.trim();
    write!(stream, "GET /v1/targets HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let found = body["targets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["name"] == target);
    let figure = |of: &str| found.map_or(0, |target| target[of].as_u64().unwrap());
    (figure("delivered"), figure("waiting"))
}

pub(crate) fn eventually(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < PATIENCE,
            "the condition did not come to hold"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
