//! The journey of the README with a pool, word for word, with a real MCP server from npm.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::host::Host;
use crate::readme;

const HEADING: &str = "A pool of processes.";

/// The version that the transcript was made with.
const PACKAGE: &str = "@modelcontextprotocol/server-everything@2026.8.31";

/// Returns the directory with the server; `None` if it cannot be had here.
fn installed() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mcp-server");
    if dir.join("node_modules/.bin/mcp-server-everything").exists() {
        return Some(dir);
    }
    std::fs::create_dir_all(&dir).unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", PACKAGE]);
    let installed = npm.current_dir(&dir).stdin(Stdio::null()).status();
    installed
        .is_ok_and(|status| status.success())
        .then_some(dir)
}

#[test]
fn a_real_mcp_server_in_two_instances_answers_as_the_documentation_shows() {
    let Some(server) = installed() else {
        println!(
            "SKIPPED: npm cannot install {PACKAGE} here; the README's journey with a pool is not tested"
        );
        return;
    };
    let file = readme::block(HEADING, "toml").replace(
        "node_modules",
        server.join("node_modules").to_str().unwrap(),
    );
    let host = Host::start(&file);
    assert_eq!(host.workers().len(), 2);
    let transcript = readme::block(HEADING, "console");
    assert_eq!(readme::steps(&transcript).len(), 3);
    readme::follow(&transcript, |command| host.shell(command));
}
