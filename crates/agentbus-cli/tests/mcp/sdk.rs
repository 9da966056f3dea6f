//! Installing the SDKs, and a bus for them to tour.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Installations go one after the other, because tests of one SDK share a directory.
static INSTALLING: Mutex<()> = Mutex::new(());

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_agentbus");

/// Returns a directory in which these commands have run; `None` if they cannot run here.
pub(crate) fn installed(name: &str, commands: &[&[&str]]) -> Option<PathBuf> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let wanted = format!("{commands:?}");
    let done = directory.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|text| text == wanted) {
        return Some(directory);
    }
    std::fs::create_dir_all(&directory).unwrap();
    for command in commands {
        let mut run = Command::new(command[0]);
        run.args(&command[1..]).current_dir(&directory);
        let ran = run.stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !ran.is_ok_and(|status| status.success()) {
            println!("SKIPPED: `{}` does not work here", command.join(" "));
            return None;
        }
    }
    std::fs::write(done, wanted).unwrap();
    Some(directory)
}

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
