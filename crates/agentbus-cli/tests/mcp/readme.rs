//! The README's conversation of two MCP clients and a person with curl, word for word.

use std::path::Path;
use std::process::Command;

use crate::python;
use crate::sdk::{Bus, PROGRAM};

/// The transcript of the README after "**Agents in your editor.**".
fn transcript() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, journey) = text.split_once("**Agents in your editor.**").unwrap();
    let (_, block) = journey.split_once("```console\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn two_clients_and_a_person_talk_as_the_readme_shows() {
    let Some(python) = python::home() else { return };
    let bus = Bus::start();
    // The commands leave files behind, so they run elsewhere.
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    std::os::unix::fs::symlink(examples, bus.directory.path().join("examples")).unwrap();
    let lines: Vec<String> = transcript().lines().map(str::to_owned).collect();
    let commands: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("$ "))
        .collect();
    let wanted: Vec<&String> = lines
        .iter()
        .filter(|line| !line.starts_with("$ "))
        .collect();
    // What curl prints is the message as stored, which the README leaves out.
    let script = commands
        .join("\n")
        .replace("curl -s ", "curl -s -o /dev/null ");
    let programs = [Path::new(PROGRAM).parent().unwrap(), &python.join("bin")];
    let programs = programs.map(|one| one.display().to_string()).join(":");
    let output = Command::new("sh")
        .args(["-c", &script.replace("http://127.0.0.1:39765", &bus.url)])
        .env(
            "PATH",
            format!("{programs}:{}", std::env::var("PATH").unwrap()),
        )
        .env("AGENTBUS_URL", &bus.url)
        .env("AGENTBUS_DATA_DIR", bus.directory.path().join("data"))
        .env_remove("AGENTBUS_TOKEN")
        .current_dir(bus.directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted, "{complained}");
}
