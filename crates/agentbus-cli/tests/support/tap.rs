//! An agent with a tap on both of its streams.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::frames::{Frames, From};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_agentbus");

/// A command that runs an agent and writes down what passes.
pub(crate) struct Tap {
    pub(crate) directory: tempfile::TempDir,
}

impl Tap {
    /// The worker.
    pub(crate) fn worker() -> Self {
        let tap = Self::new();
        let data = tap.directory.path().join("worker");
        tap.around(&[PROGRAM, "worker", "acp", "--data-dir", &text(&data)])
    }

    /// `agentbus acp` at a bus with this data directory, in which its token is.
    pub(crate) fn of_bus(url: &str, data: &Path) -> Self {
        let data = format!("AGENTBUS_DATA_DIR={}", text(data));
        Self::new().around(&["env", &data, PROGRAM, "--url", url, "acp"])
    }

    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Puts it around an agent, whose processes have files of their own.
    pub(crate) fn around(self, words: &[&str]) -> Self {
        let (here, agent) = (text(self.directory.path()), words.join("' '"));
        let script = format!(
            "#!/bin/sh\ntee '{here}'/client-$$.jsonl | '{agent}' \"$@\" | tee '{here}'/agent-$$.jsonl\n"
        );
        fs::write(self.command(), script).unwrap();
        fs::set_permissions(self.command(), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    pub(crate) fn command(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// Checks all frames of all processes, which must have ended; returns how many there were.
    pub(crate) fn check(&self) -> usize {
        let files = fs::read_dir(self.directory.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let read = |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap();
        let mut count = 0;
        for asked in names.filter(|name| name.starts_with("client-")) {
            count += connection(&read(&asked), &read(&asked.replace("client", "agent")));
        }
        count
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Checks what both sides of a process wrote; returns how many frames there were.
///
/// Clients behind a process bus share it, each with ids of its own; the routing id on a line says
/// whose it is.
fn connection(asked: &str, said: &str) -> usize {
    let mut clients: BTreeMap<String, Frames> = BTreeMap::new();
    let parsed = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    // A question is known before its answer, in whichever file it stands.
    for answers in [false, true] {
        let asked = asked.lines().map(|line| (From::Client, line));
        for (from, line) in asked.chain(said.lines().map(|line| (From::Agent, line))) {
            let frame = parsed(line);
            if frame.get("method").is_none() == answers {
                let client = clients.entry(frame["sessionId"].to_string());
                client.or_insert_with(Frames::new).check(from, line);
            }
        }
    }
    clients.values().map(|frames| frames.count).sum()
}

#[test]
fn a_tap_finds_the_one_wrong_frame_of_a_process() {
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}"#;
    let good = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1}}"#;
    for (answer, holds) in [
        (good, true),
        (
            r#"{"jsonrpc":"2.0","id":2,"result":{"protocolVersion":1}}"#,
            false,
        ),
        (
            r#"{"jsonrpc":"1.0","id":1,"result":{"protocolVersion":1}}"#,
            false,
        ),
        ("a banner", false),
    ] {
        let tap = Tap::new().around(&["sed", &format!("s/.*/{answer}/")]);
        let script = format!("echo '{ask}' | '{}'", text(&tap.command()));
        let ran = std::process::Command::new("sh")
            .args(["-c", &script])
            .output();
        assert!(ran.unwrap().status.success());
        let checked = std::panic::catch_unwind(|| tap.check());
        assert_eq!(checked.ok(), holds.then_some(2), "{answer}");
    }
}
