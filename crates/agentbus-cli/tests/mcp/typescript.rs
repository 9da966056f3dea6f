//! Both lines of the TypeScript SDK; the first knows the session era only.

use std::path::Path;
use std::process::Command;

use crate::install;
use crate::sdk::{Bus, tour};

/// The versions that the tour was written for.
const PACKAGES: &[&str] = &[
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/client@2.4.0",
];

/// The script, where the packages can be installed. Node looks for them beside the script.
fn script(line: &str) -> Option<Command> {
    let home = install::npm("mcp-typescript", PACKAGES)?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/tour.mjs");
    let copy = home.join(format!("tour-{}.mjs", std::process::id()));
    std::fs::copy(source, &copy).unwrap();
    let mut script = Command::new(install::node(&home));
    script.arg(copy).arg(line);
    Some(script)
}

fn check(line: &str, transport: &str, mode: &str) {
    let Some(script) = script(line) else { return };
    tour(script, transport, mode, Some(&Bus::start()));
}

#[test]
fn the_first_line_tours_over_every_transport() {
    for transport in ["http", "sse", "stdio"] {
        check("v1", transport, "legacy");
    }
}

#[test]
fn the_second_line_tours_over_every_transport() {
    for transport in ["http", "sse", "stdio"] {
        check("v2", transport, "legacy");
    }
}

#[test]
fn the_second_line_tours_without_a_session() {
    for transport in ["http", "stdio"] {
        check("v2", transport, "2026-07-28");
    }
}

#[test]
fn both_lines_tour_with_a_bus_inside() {
    for (line, mode) in [("v1", "legacy"), ("v2", "2026-07-28")] {
        let Some(script) = script(line) else { return };
        tour(script, "stdio", mode, None);
    }
}
