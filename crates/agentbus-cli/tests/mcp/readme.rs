//! The README's conversation of two MCP clients and a person with curl, word for word.

use std::path::Path;

use crate::journeys::{block, shell, steps};
use crate::python;
use crate::sdk::Bus;

#[test]
fn two_clients_and_a_person_talk_as_the_readme_shows() {
    let Some(python) = python::home() else { return };
    let bus = Bus::start();
    let dir = bus.directory.path();
    // The commands leave files behind, so they run elsewhere.
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    std::os::unix::fs::symlink(examples, dir.join("examples")).unwrap();
    let steps = steps(&block("Agents in your editor.", "console"));
    let commands: Vec<&str> = steps.iter().map(|(command, _)| command.as_str()).collect();
    let wanted: Vec<&str> = steps.iter().flat_map(|(_, said)| said.lines()).collect();
    // What curl prints is the message as stored, which the README leaves out.
    let script = commands
        .join("\n")
        .replace("curl -s ", "curl -s -o /dev/null ");
    let output = shell(&script, dir, &bus.url, &[&python.join("bin")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted, "{complained}");
}
