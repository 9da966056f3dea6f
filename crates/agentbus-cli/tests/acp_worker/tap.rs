//! An agent with a tap on both of its streams.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::frames::{Frames, From};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_agentbus");

/// A command without arguments that runs an agent and writes down what passes.
pub(crate) struct Tap {
    pub(crate) directory: tempfile::TempDir,
}

impl Tap {
    /// The worker.
    pub(crate) fn new() -> Self {
        Self::of("worker acp --data-dir worker", Path::new("."))
    }

    /// The program with these arguments, and the token of a bus with this data directory.
    pub(crate) fn of(words: &str, data: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (here, data) = (directory.path().display(), data.display());
        let script = format!(
            "#!/bin/sh\ncd '{here}'\nexport AGENTBUS_DATA_DIR='{data}'\ntee -a client.jsonl | '{PROGRAM}' {words} | tee -a agent.jsonl\n"
        );
        let tap = Self { directory };
        fs::write(tap.command(), script).unwrap();
        fs::set_permissions(tap.command(), fs::Permissions::from_mode(0o755)).unwrap();
        tap
    }

    pub(crate) fn command(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// Checks all frames, connection by connection: each begins with `initialize`.
    pub(crate) fn check(&self) -> usize {
        let read = |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap();
        let asked = connections(&read("client.jsonl"), |line| {
            line.contains("\"initialize\"")
        });
        let said = connections(&read("agent.jsonl"), |line| {
            line.contains("\"agentCapabilities\"")
        });
        assert_eq!(asked.len(), said.len());
        let mut count = 0;
        for (asked, said) in asked.iter().zip(&said) {
            let mut frames = Frames::new();
            // A question is known before its answer, in whichever file it stands.
            let all = || {
                asked
                    .iter()
                    .map(|line| (From::Client, line))
                    .chain(said.iter().map(|line| (From::Agent, line)))
            };
            let answers = |line: &str| {
                let frame: serde_json::Value = serde_json::from_str(line).unwrap();
                frame.get("method").is_none()
            };
            for (from, line) in all().filter(|(_, line)| !answers(line)) {
                frames.check(from, line);
            }
            for (from, line) in all().filter(|(_, line)| answers(line)) {
                frames.check(from, line);
            }
            count += frames.count;
        }
        count
    }
}

/// Cuts a file where a connection begins.
fn connections(text: &str, begins: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = Vec::new();
    for line in text.lines() {
        if begins(line) {
            all.push(Vec::new());
        }
        all.last_mut()
            .expect("a connection begins with initialize")
            .push(line.to_owned());
    }
    all
}

/// Where the scripts of the tours are.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/acp_worker")
        .join(name)
}
