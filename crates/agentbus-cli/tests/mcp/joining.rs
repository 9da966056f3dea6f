//! Which bus `agentbus mcp` joins, and with which token.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::sdk::{Bus, PROGRAM};

/// What a client says first.
pub(crate) fn greeting() -> Value {
    let client = json!({ "name": "test", "version": "1" });
    let params =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params })
}

/// Says hello in a directory, with a home that has no token, and hangs up.
fn hello(directory: &Path, arguments: &[&str], token: Option<&str>) -> Output {
    let hello = format!("{}\n", greeting());
    say(directory, arguments, token, hello.as_bytes())
}

/// Says something in a directory, with a home that has no token, and hangs up.
pub(crate) fn say(
    directory: &Path,
    arguments: &[&str],
    token: Option<&str>,
    input: &[u8],
) -> Output {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .env("HOME", directory)
        .env_remove("XDG_DATA_HOME")
        .env_remove("AGENTBUS_DATA_DIR")
        .env_remove("AGENTBUS_TOKEN")
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(token) = token {
        command.env("AGENTBUS_TOKEN", token);
    }
    let mut child = command.spawn().unwrap();
    // Who ends early says why on standard error.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn answer(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn the_token_is_that_of_the_data_directory_that_is_named() {
    let bus = Bus::start();
    let directory = bus.directory.path();
    let data = directory.join("data");
    let data = data.to_str().unwrap();
    let joined = hello(
        directory,
        &["--url", &bus.url, "mcp", "--data-dir", data],
        None,
    );
    let joined = answer(&joined);
    assert_eq!(
        joined["result"]["serverInfo"]["name"], "AgentBus",
        "{joined}"
    );
    // Without it, or with a wrong one, it is said what leads there.
    let refused = hello(directory, &["--url", &bus.url, "mcp"], None);
    let text = answer(&refused)["error"]["message"].to_string();
    assert!(text.contains("AGENTBUS_DATA_DIR"), "{text}");
    for verb in [&["mcp"][..], &["agents"], &["invoke", "x"]] {
        let arguments = [&["--url", &bus.url], verb].concat();
        let refused = hello(directory, &arguments, Some("wrong"));
        let said = [refused.stdout, refused.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("unset AGENTBUS_TOKEN"), "{verb:?}: {said}");
    }
}

#[test]
fn a_bus_of_its_own_needs_a_directory_of_its_own() {
    let bus = Bus::start();
    let data = bus.directory.path().join("data");
    let own = ["mcp", "--embedded", "--listen", "127.0.0.1:0", "--data-dir"];
    let own = [&own[..], &[data.to_str().unwrap()]].concat();
    let refused = hello(bus.directory.path(), &own, None);
    assert_eq!(refused.status.code(), Some(9));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("leave it out to join"), "{said}");
}

#[test]
fn a_bus_of_its_own_is_carried_by_the_transport_that_is_named() {
    let own = ["--embedded", "--listen", "127.0.0.1:0"];
    for verb in ["mcp", "acp"] {
        let directory = tempfile::tempdir().unwrap();
        let log = ["--transport", "sqlite://bus.db", verb];
        let served = hello(directory.path(), &[&log[..], &own].concat(), None);
        let said = String::from_utf8_lossy(&served.stderr);
        assert!(directory.path().join("bus.db").exists(), "{verb}: {said}");
    }
    // One that runs has a transport, and whoever joins it is told.
    let bus = Bus::start();
    let join = ["--url", &bus.url, "mcp", "--transport", "sqlite://bus.db"];
    let joined = hello(bus.directory.path(), &join, Some(&bus.token));
    assert_eq!(answer(&joined)["result"]["serverInfo"]["name"], "AgentBus");
    let said = String::from_utf8_lossy(&joined.stderr);
    assert!(said.contains("over the transport that it has"), "{said}");
    assert!(!bus.directory.path().join("bus.db").exists());
}

#[test]
fn a_file_in_the_directory_of_a_project_does_not_stop_it() {
    let project = tempfile::tempdir().unwrap();
    let agent = "[[agents]]\nname = \"a\"\ncommand = [\"cat\"]\n";
    let text = format!("auth = \"off\"\nlog = \"warn\"\n{agent}");
    std::fs::write(project.path().join("agentbus.toml"), text).unwrap();
    let own = ["mcp", "--embedded", "--listen", "127.0.0.1:0"];
    let served = hello(project.path(), &own, None);
    assert_eq!(answer(&served)["result"]["serverInfo"]["name"], "AgentBus");
    let said = String::from_utf8_lossy(&served.stderr);
    assert!(said.contains("sets auth, agents"), "{said}");
}
