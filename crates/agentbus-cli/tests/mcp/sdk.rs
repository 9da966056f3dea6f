//! A bus for the SDKs to tour.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

pub(crate) use crate::install::installed;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_agentbus");

/// A running bus.
pub(crate) struct Bus {
    child: Child,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) directory: tempfile::TempDir,
}

impl Bus {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(PROGRAM)
            .args([
                "--json",
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--log",
                "error",
            ])
            .env("AGENTBUS_DATA_DIR", directory.path().join("data"))
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let token = std::fs::read_to_string(told["token_file"].as_str().unwrap()).unwrap();
        Self {
            child,
            url: told["listening"].as_str().unwrap().to_owned(),
            token: token.trim().to_owned(),
            directory,
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends an SDK on its tour: over a transport at an era, to a running bus or to one that the
/// program runs itself.
pub(crate) fn tour(mut script: Command, transport: &str, mode: &str, bus: Option<&Bus>) {
    let own = tempfile::tempdir().unwrap();
    let data = bus
        .map_or(own.path(), |bus| bus.directory.path())
        .join("data");
    let output = script
        .args([transport, mode])
        .args(bus.map_or(["", ""], |bus| [bus.url.as_str(), bus.token.as_str()]))
        .arg(PROGRAM)
        .env("AGENTBUS_DATA_DIR", data)
        .env_remove("AGENTBUS_URL")
        .env_remove("AGENTBUS_TOKEN")
        .current_dir(own.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{transport} {mode}: {said}\n{complained}"
    );
    assert!(said.contains("the tour is complete"), "{said}");
}
