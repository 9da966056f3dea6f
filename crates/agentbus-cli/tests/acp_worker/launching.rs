//! What the launcher's agents are given, and how they end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::{Launcher, binary, write_secret};
use crate::script;
use crate::tap::PROGRAM;

/// An index with one agent, which notes what it does in the directory.
fn index(directory: &Path, words: &[&str]) -> Value {
    let script = script("agent.py").display().to_string();
    let home = directory.display().to_string();
    let arguments: Vec<_> = [script.as_str(), home.as_str()]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    let mut agent = binary("agent", "python3", &arguments);
    let platform = agent["distribution"]["binary"]
        .as_object()
        .unwrap()
        .keys()
        .next()
        .unwrap()
        .clone();
    agent["distribution"]["binary"][platform]["env"] =
        json!({ "FROM": "the index", "SHARED": "the index" });
    json!({ "version": "1", "agents": [agent] })
}

fn launcher(directory: &TempDir, change: impl FnOnce(&mut Command)) -> Launcher {
    let mut command = Command::new(PROGRAM);
    command
        .args(["worker", "registry", "--data-dir", "registry"])
        .current_dir(directory.path());
    change(&mut command);
    Launcher::of(command)
}

fn given(launcher: &mut Launcher) -> Value {
    launcher.ask("g", "agent", "_given", &json!({}))["result"].clone()
}

#[test]
fn variables_name_the_files_and_flags_win() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, value: Value| {
        std::fs::write(directory.path().join(name), value.to_string()).unwrap();
    };
    write("first.json", index(directory.path(), &["first"]));
    write("second.json", index(directory.path(), &["second"]));
    write("own.json", index(directory.path(), &["own"]));
    let mut named = launcher(&directory, |command| {
        command.env("ACP_REGISTRY_URL", "first.json");
    });
    assert_eq!(given(&mut named)["arguments"], json!(["first"]));
    named.end();
    let mut flagged = launcher(&directory, |command| {
        command
            .env("ACP_REGISTRY_URL", "first.json")
            .args(["--registry", "second.json"]);
    });
    assert_eq!(given(&mut flagged)["arguments"], json!(["second"]));
    flagged.end();
    // Agents of one's own win over those of the registry.
    let mut own = launcher(&directory, |command| {
        command
            .env("ACP_REGISTRY_URL", "first.json")
            .env("ACP_CUSTOM_AGENTS_PATH", "own.json");
    });
    assert_eq!(given(&mut own)["arguments"], json!(["own"]));
    own.end();
}

#[test]
fn an_agent_gets_the_variables_of_its_entry_and_its_keys_and_none_of_the_bus() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("index.json"),
        index(directory.path(), &[]).to_string(),
    )
    .unwrap();
    let key = json!({ "apiKey": "the-key", "env": { "SHARED": "the keys" } });
    let keys = json!({ "version": "1", "agents": { "agent": key } });
    write_secret(&directory.path().join("keys.json"), &keys.to_string());
    let mut launcher = launcher(&directory, |command| {
        command
            .args(["--registry", "index.json"])
            .env("ACP_API_KEYS_PATH", "keys.json")
            .env("MINE", "inherited")
            .env("AGENTBUS_TOKEN", "of the bus")
            .env("AGENTBUS_REGISTRY_PASSPHRASE", "of the tokens")
            .env("OAUTH_GITHUB_CLIENT_SECRET", "of a client");
    });
    let given = given(&mut launcher)["variables"].clone();
    for (name, value) in [
        ("FROM", json!("the index")),
        ("SHARED", json!("the keys")),
        ("AGENT_API_KEY", json!("the-key")),
        ("MINE", json!("inherited")),
        ("AGENTBUS_TOKEN", Value::Null),
        ("AGENTBUS_REGISTRY_PASSPHRASE", Value::Null),
        ("OAUTH_GITHUB_CLIENT_SECRET", Value::Null),
    ] {
        assert_eq!(given[name], value, "{name}");
    }
    launcher.end();
}

#[test]
fn what_an_agent_says_on_the_side_is_logged_under_its_name() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("index.json"),
        index(directory.path(), &[]).to_string(),
    )
    .unwrap();
    let log = directory.path().join("log");
    let mut launcher = launcher(&directory, |command| {
        command.args(["--registry", "index.json", "--log", "info"]);
        command.stderr(std::fs::File::create(&log).unwrap());
    });
    given(&mut launcher);
    launcher.end();
    let log = std::fs::read_to_string(log).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains("a word on the side"))
        .unwrap();
    assert!(line.contains("agent"), "{line}");
}

#[test]
fn an_agent_that_does_not_end_is_killed_after_its_time() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("index.json"),
        index(directory.path(), &["--stubborn"]).to_string(),
    )
    .unwrap();
    let mut launcher = launcher(&directory, |command| {
        command.args(["--registry", "index.json", "--shutdown-timeout", "1"]);
    });
    launcher
        .send(&json!({ "jsonrpc": "2.0", "id": 1, "agentId": "agent", "method": "initialize", "params": { "protocolVersion": 1 } }));
    let note = directory.path().join("logged-in");
    let begun = Instant::now();
    let agent = loop {
        let text = std::fs::read_to_string(&note).unwrap_or_default();
        if let Some(id) = text
            .strip_prefix("stubborn ")
            .and_then(|id| id.strip_suffix('\n'))
        {
            break id.to_owned();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the agent was not started"
        );
        std::thread::yield_now();
    };
    // It ends well, though its agent does not.
    launcher.end();
    assert!(!Path::new("/proc").join(agent).exists());
}

#[test]
fn a_signal_and_the_end_of_the_input_end_each_worker_well() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("index.json"),
        index(directory.path(), &[]).to_string(),
    )
    .unwrap();
    let workers = [
        (&["echo"][..], r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#),
        (&["mcp-echo"], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        (
            &["acp", "--data-dir", "acp"],
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}"#,
        ),
        (
            &[
                "registry",
                "--registry",
                "index.json",
                "--data-dir",
                "registry",
            ],
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}"#,
        ),
        (
            &["mcp-proxy", "--unix", "nowhere"],
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
        ),
    ];
    let ends = [Some("TERM"), Some("INT"), None];
    for ((words, line), signal) in workers.iter().flat_map(|it| ends.map(|end| (it, end))) {
        let mut command = Command::new(PROGRAM);
        command
            .arg("worker")
            .args(*words)
            .current_dir(directory.path())
            .stderr(Stdio::null());
        let mut worker = Launcher::of_another(command);
        worker.send(&serde_json::from_str(line).unwrap());
        // It listens to signals once it answers.
        assert_eq!(worker.read()["id"], 1, "{words:?}");
        match signal {
            Some(signal) => assert_eq!(worker.signal(signal), Some(0), "{words:?} {signal}"),
            None => worker.end(),
        }
    }
}
