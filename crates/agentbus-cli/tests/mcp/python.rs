//! The Python SDK, which speaks both eras.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::installed;
use crate::sdk::{Bus, tour};

/// The version that the tour was written for.
const PACKAGE: &str = "mcp==2.3.0";

/// The environment of a Python that has the SDK; `None` where it cannot be installed.
pub(crate) fn home() -> Option<PathBuf> {
    let make: &[&str] = &["python3", "-m", "venv", "."];
    let install: &[&str] = &["bin/pip", "install", "--quiet", PACKAGE];
    installed("mcp-python", &[make, install])
}

/// The tour, run by that Python.
fn script() -> Option<Command> {
    let home = home()?;
    let mut script = Command::new(home.join("bin/python"));
    script.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/tour.py"));
    Some(script)
}

fn check(transport: &str, mode: &str) {
    let Some(script) = script() else { return };
    tour(script, transport, mode, Some(&Bus::start()));
}

#[test]
fn python_tours_over_streamable_http_with_a_session() {
    check("http", "legacy");
}

#[test]
fn python_tours_over_streamable_http_without_a_session() {
    check("http", "2026-07-28");
}

#[test]
fn python_tours_over_the_older_http_transport() {
    check("sse", "legacy");
}

#[test]
fn python_tours_over_lines_to_a_running_bus() {
    check("stdio", "legacy");
    check("stdio", "2026-07-28");
}

#[test]
fn python_tours_over_lines_with_a_bus_inside() {
    for mode in ["legacy", "2026-07-28"] {
        let Some(script) = script() else { return };
        tour(script, "stdio", mode, None);
    }
}
