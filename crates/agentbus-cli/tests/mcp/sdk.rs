//! A bus for the SDKs to tour.

use std::process::Command;

use crate::serving::{Running, SERVE, Serving};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_agentbus");

/// A running bus.
pub(crate) struct Bus {
    _process: Running,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) directory: tempfile::TempDir,
}

impl Bus {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut serve = Command::new(PROGRAM);
        serve
            .args(SERVE)
            .args(["--log", "error"])
            .env("AGENTBUS_DATA_DIR", directory.path().join("data"))
            .current_dir(directory.path());
        let serving = Serving::start(&mut serve);
        Self {
            token: serving.token(),
            _process: serving.process,
            url: serving.url,
            directory,
        }
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
