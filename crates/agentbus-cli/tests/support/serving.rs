//! The program under test, and processes that end with their test, the bus above all.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// Serves on a port that the system chooses, and says which; options follow.
pub(crate) const SERVE: [&str; 4] = ["serve", "--json", "--listen", "127.0.0.1:0"];

/// The program in this directory, with its data in `data` there. It knows nothing of a bus that
/// somebody uses on the machine.
pub(crate) fn agentbus(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AGENTBUS_") {
            command.env_remove(name);
        }
    }
    command
        .env("AGENTBUS_DATA_DIR", dir.join("data"))
        .current_dir(dir);
    command
}

/// A process that is ended with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Ends it as an operator does; what it runs has ended too when this returns.
    pub(crate) fn end(&mut self) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(sent.unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bus in a process of its own.
pub(crate) struct Serving {
    pub(crate) process: Running,
    pub(crate) url: String,
    told: Value,
}

impl Serving {
    /// Runs `agentbus serve`, told to with [`SERVE`], until it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        // The pipe stays open: the bus says more when it ends.
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut first)
            .unwrap();
        let process = Running(child);
        let told: Value = serde_json::from_str(&first).unwrap();
        let url = told["listening"].as_str().unwrap().to_owned();
        Self { process, url, told }
    }

    /// The host and the port.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub(crate) fn token(&self) -> String {
        let file = self.told["token_file"].as_str().unwrap();
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }
}
