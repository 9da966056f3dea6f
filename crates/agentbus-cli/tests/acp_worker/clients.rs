//! The clients: the TypeScript SDK, the Python SDK, and acpx.

use std::process::{Command, Output};

use crate::script;
use crate::support::frames::{python, typescript};
use crate::support::install::node;
use crate::tap::{PROGRAM, Tap};

/// Runs a client to its end; it must succeed.
fn run(command: &mut Command, tap: &Tap) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.current_dir(tap.directory.path()).output().unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{said}\n{complained}");
    said.into_owned()
}

/// The tour of the TypeScript SDK; returns how many frames were checked.
fn tour_typescript(tap: &Tap) -> Option<usize> {
    let home = typescript()?;
    // Node looks for packages beside the script.
    let copy = home.join(format!("tour-{}.mjs", name_of(tap)));
    std::fs::copy(script("tour.mjs"), &copy).unwrap();
    let mut tour = Command::new(node(&home));
    let said = run(tour.arg(&copy).arg(tap.command()).arg(PROGRAM), tap);
    assert!(said.contains("the tour is complete"), "{said}");
    Some(tap.check())
}

/// The tour of the Python SDK.
fn tour_python(tap: &Tap) -> Option<usize> {
    let mut python = Command::new(python()?);
    python.arg(script("tour.py"));
    let said = run(python.arg(tap.command()).arg(PROGRAM), tap);
    assert!(said.contains("the tour is complete"), "{said}");
    Some(tap.check())
}

/// The tour of acpx.
fn tour_acpx(tap: &Tap) -> Option<usize> {
    let home = typescript()?;
    let servers = serde_json::json!({ "mcpServers": [{ "name": "echo", "type": "stdio", "command": PROGRAM, "args": ["worker", "mcp-echo"], "env": [] }] });
    let config = tap.directory.path().join("mcp.json");
    std::fs::write(&config, servers.to_string()).unwrap();
    let acpx = |words: &[&str]| {
        let mut command = Command::new(node(&home));
        command
            .arg(home.join("node_modules/acpx/dist/cli.js"))
            .arg("--agent")
            .arg(tap.command())
            .args(["--approve-all", "--format", "json", "--mcp-config"])
            .arg(&config)
            .args(words)
            .env("HOME", tap.directory.path());
        run(&mut command, tap)
    };
    let said = acpx(&["exec", "hello acpx"]);
    assert!(said.contains("\"text\":\"hello acpx\""), "{said}");
    assert!(said.contains("\"stopReason\":\"end_turn\""), "{said}");
    let said = acpx(&["exec", "/tool reverse {\"text\":\"abc\"}"]);
    assert!(said.contains("\"text\":\"cba\""), "{said}");
    assert!(said.contains("session/request_permission"), "{said}");
    let said = acpx(&["sessions", "list"]);
    assert!(said.contains("hello acpx"), "{said}");
    Some(tap.check())
}

/// A name that no other tour has.
fn name_of(tap: &Tap) -> String {
    let name = tap.directory.path().file_name().unwrap();
    name.to_string_lossy().trim_start_matches('.').to_owned()
}

#[test]
fn the_typescript_sdk_tours_the_worker() {
    let Some(checked) = tour_typescript(&Tap::worker()) else {
        return;
    };
    assert!(checked > 30, "only {checked} frames");
}

#[test]
fn the_python_sdk_tours_the_worker() {
    let Some(checked) = tour_python(&Tap::worker()) else {
        return;
    };
    assert!(checked > 25, "only {checked} frames");
}

#[test]
fn acpx_completes_turns_with_tools_and_lists() {
    let Some(checked) = tour_acpx(&Tap::worker()) else {
        return;
    };
    assert!(checked > 20, "only {checked} frames");
}

/// The same tours, with the worker behind a bus.
mod of_the_bus {
    use super::*;
    use crate::bus::Bus;

    fn bus() -> (Bus, Tap) {
        let bus = Bus::start();
        let tap = Tap::of_bus(bus.url(), &bus.dir.path().join("data"));
        (bus, tap)
    }

    #[test]
    fn the_typescript_sdk_tours_the_bus() {
        let (_bus, tap) = bus();
        let Some(checked) = tour_typescript(&tap) else {
            return;
        };
        assert!(checked > 30, "only {checked} frames");
    }

    #[test]
    fn the_python_sdk_tours_the_bus() {
        let (_bus, tap) = bus();
        let Some(checked) = tour_python(&tap) else {
            return;
        };
        assert!(checked > 25, "only {checked} frames");
    }

    #[test]
    fn acpx_completes_turns_over_the_bus_and_lists() {
        let (_bus, tap) = bus();
        let Some(checked) = tour_acpx(&tap) else {
            return;
        };
        assert!(checked > 20, "only {checked} frames");
    }
}
