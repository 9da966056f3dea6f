//! `cargo xtask conformance mcp`: the official MCP suite, unchanged, against a bus of our own.
//!
//! The suite and the Node that it needs come from npm into `target/`. What it tests is the example
//! `mcp_fixture` of the server: the whole host, with the tools that the suite asks for registered
//! as any application would. Where npm cannot install, that is said, and nothing is tested.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cargo;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// What is installed, each with the version that the figures below belong to.
const PACKAGES: [&str; 2] = [
    "node@22.23.3",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
];

/// The suite inside of its package.
const SUITE: &str = "node_modules/@modelcontextprotocol/conformance";

/// The revisions, each with the number of scenarios that it requires of a server.
const REVISIONS: [(&str, usize); 2] = [("2025-11-25", 30), ("2026-07-28", 37)];

/// Runs the named suite.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    match arguments {
        [one] if one == "mcp" => mcp(workspace),
        _ => Err(Failure::new(
            "conformance takes the name of a suite; there is mcp",
        )),
    }
}

/// Runs the MCP suite at both revisions.
pub(crate) fn mcp(workspace: &Workspace) -> Result<(), Failure> {
    let Some(home) = installed(workspace)? else {
        println!("SKIPPED: npm cannot install {}", PACKAGES.join(" and "));
        return Ok(());
    };
    let build = "build --package agentbus-server --example mcp_fixture";
    cargo::run(cargo::line(workspace, build))?;
    let fixture = Fixture::start(workspace, &home)?;
    let mut failed = Vec::new();
    for (revision, required) in REVISIONS {
        let passed = revision_of(&home, &fixture.url, revision)?;
        println!("MCP {revision}: {passed} of {required} required server scenarios pass");
        if passed != required {
            failed.push(format!("{revision}: {passed} of {required}"));
        }
    }
    Failure::unless_empty("the MCP conformance suite does not pass", &failed)
}

/// Installs the suite once; none if npm cannot.
fn installed(workspace: &Workspace) -> Result<Option<PathBuf>, Failure> {
    let home = cargo::target(workspace).join("conformance/mcp");
    if home.join(SUITE).join("dist/index.js").is_file() {
        return Ok(Some(home));
    }
    std::fs::create_dir_all(&home).map_err(|error| Failure::read(&home, &error))?;
    let installed = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--silent"])
        .args(PACKAGES)
        .current_dir(&home)
        .stdin(Stdio::null())
        .status();
    Ok(installed
        .is_ok_and(|status| status.success())
        .then_some(home))
}

/// Runs one revision's set; how many of the required scenarios pass.
fn revision_of(home: &Path, url: &str, revision: &str) -> Result<usize, Failure> {
    let broken = |error: std::io::Error| Failure::new(format!("cannot run the suite: {error}"));
    let output = Command::new(home.join("node_modules/node/bin/node"))
        .arg(home.join(SUITE).join("dist/index.js"))
        .args(["server", "--url", url, "--requirements", revision, "-o"])
        .arg(home.join("out").join(revision))
        .output()
        .map_err(broken)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let file = home
        .join(SUITE)
        .join(format!("requirements/{revision}.yaml"));
    let set = std::fs::read_to_string(&file).map_err(|error| Failure::read(&file, &error))?;
    let required = required(&set);
    for line in said.lines().filter(|line| line.starts_with('✗')) {
        let scenario = scenario(line);
        let counts = if required.contains(&scenario) {
            ""
        } else {
            " (not required)"
        };
        println!("  {line}{counts}");
    }
    let passed = said.lines().filter(|line| line.starts_with('✓'));
    Ok(passed
        .filter(|line| required.contains(&scenario(line)))
        .count())
}

/// The scenario of a line of the summary: `✓ ping: 2 passed, 0 failed`.
fn scenario(line: &str) -> &str {
    let rest = line.trim_start_matches(['✓', '✗', ' ']);
    rest.split(':').next().unwrap_or_default()
}

/// The scenarios that a set requires of a server.
fn required(set: &str) -> Vec<&str> {
    let lines = set.lines().skip_while(|line| *line != "server:").skip(1);
    lines
        .take_while(|line| line.is_empty() || line.starts_with(' '))
        .filter_map(|line| line.trim().strip_prefix("- "))
        .collect()
}

/// The running example; it stops when its input ends.
struct Fixture {
    child: Child,
    url: String,
}

impl Fixture {
    fn start(workspace: &Workspace, home: &Path) -> Result<Self, Failure> {
        let broken = |error: std::io::Error| Failure::new(format!("cannot start it: {error}"));
        let data = home.join("data");
        // What an earlier run left is another version's, perhaps, and no part of this one.
        let _ = std::fs::remove_dir_all(&data);
        let mut child = Command::new(cargo::target(workspace).join("debug/examples/mcp_fixture"))
            .arg(&data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let mut url = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut url).map_err(broken)?;
        }
        let url = url.trim().to_owned();
        let fixture = Self { child, url };
        if fixture.url.is_empty() {
            return Err(Failure::new(
                "the example mcp_fixture ended before it served",
            ));
        }
        Ok(fixture)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_required_scenarios_of_a_server_are_read() {
        let set = "# text\nserver:\n  - ping\n  - tools-list\n\nclient:\n  - tools_call\n";
        assert_eq!(required(set), ["ping", "tools-list"]);
        assert_eq!(scenario("✓ ping: 2 passed, 0 failed"), "ping");
    }
}
