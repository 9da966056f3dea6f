//! The journey of the README with a pool, word for word, with a real MCP server from npm.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::serve::Host;

/// The version that the transcript was made with.
const PACKAGE: &str = "@modelcontextprotocol/server-everything@2026.8.31";

/// Returns the first block of this kind after "**A pool of processes.**".
fn block(kind: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, journey) = text.split_once("**A pool of processes.**").unwrap();
    let (_, rest) = journey.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

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

/// Takes a transcript apart into commands and what they print.
fn commands(transcript: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in transcript.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => *output += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    commands
}

#[test]
fn a_real_mcp_server_in_two_instances_answers_as_the_documentation_shows() {
    let Some(server) = installed() else {
        println!(
            "SKIPPED: npm cannot install {PACKAGE} here; the README's journey with a pool is not tested"
        );
        return;
    };
    let file = block("toml").replace(
        "node_modules",
        server.join("node_modules").to_str().unwrap(),
    );
    let host = Host::start(&file);
    assert_eq!(host.workers().len(), 2);
    let commands = commands(&block("console"));
    assert_eq!(commands.len(), 3);
    for (command, want) in commands {
        // A shell adds no line end to what curl prints.
        let said = host.shell(&command);
        assert_eq!(said.trim_end(), want.trim_end(), "{command}");
    }
}
