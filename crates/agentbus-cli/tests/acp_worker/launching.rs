//! What the launcher's agents are given, and how they end.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
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
fn a_package_is_left_to_its_runner_and_the_first_kind_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (agent, home) = (script("agent.py"), directory.path().display());
    // Each runner becomes the agent, which says how its runner was called.
    for runner in ["npx", "uvx", "program"] {
        let path = directory.path().join(runner);
        let text = format!(
            "#!/bin/sh\nexec python3 '{}' '{home}' {runner} \"$@\"\n",
            agent.display()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    let npx = json!({ "package": "a@1.2.3", "args": ["--acp"], "env": { "FROM": "npx" } });
    let uvx = json!({ "package": "b==1", "args": ["serve"], "env": { "FROM": "uvx" } });
    let program = directory.path().join("program").display().to_string();
    let program = binary("agent", &program, &["-v"])["distribution"]["binary"].clone();
    for (distribution, arguments, from) in [
        (
            json!({ "binary": program, "uvx": uvx, "npx": npx }),
            json!(["npx", "-y", "a@1.2.3", "--acp"]),
            json!("npx"),
        ),
        (
            json!({ "binary": program, "uvx": uvx }),
            json!(["uvx", "b==1", "serve"]),
            json!("uvx"),
        ),
        (
            json!({ "binary": program }),
            json!(["program", "-v"]),
            Value::Null,
        ),
    ] {
        let entry =
            json!({ "id": "agent", "name": "n", "version": "1.0.0", "distribution": distribution });
        let index = json!({ "version": "1", "agents": [entry] });
        std::fs::write(directory.path().join("index.json"), index.to_string()).unwrap();
        let mut launcher = launcher(&directory, |command| {
            let path = std::env::var("PATH").unwrap();
            command
                .args(["--registry", "index.json"])
                .env("PATH", format!("{home}:{path}"))
                .env_remove("FROM");
        });
        let given = given(&mut launcher);
        assert_eq!(given["arguments"], arguments);
        assert_eq!(given["variables"]["FROM"], from);
        launcher.end();
    }
}

#[test]
fn npx_runs_a_package_and_asks_nobody() {
    let there = Command::new("npx").arg("--version").output();
    if !there.is_ok_and(|it| it.status.success()) {
        println!("SKIPPED: there is no npx here to run a package with");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("package");
    std::fs::create_dir(&home).unwrap();
    let package = json!({ "name": "packed-agent", "version": "1.0.0", "bin": { "packed-agent": "agent.sh" } });
    std::fs::write(home.join("package.json"), package.to_string()).unwrap();
    let agent = script("agent.py").display().to_string();
    let text = format!("#!/bin/sh\nexec python3 '{agent}' . \"$@\"\n");
    std::fs::write(home.join("agent.sh"), text).unwrap();
    let distribution = json!({ "npx": { "package": home, "args": ["--acp"] } });
    let entry =
        json!({ "id": "agent", "name": "n", "version": "1.0.0", "distribution": distribution });
    let index = json!({ "version": "1", "agents": [entry] });
    std::fs::write(directory.path().join("index.json"), index.to_string()).unwrap();
    let mut launcher = launcher(&directory, |command| {
        command
            .args(["--registry", "index.json"])
            .env("npm_config_cache", directory.path().join("cache"));
    });
    assert_eq!(given(&mut launcher)["arguments"], json!(["--acp"]));
    launcher.end();
}

#[test]
fn one_process_serves_an_agent_until_it_ends_and_then_another() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("index.json"),
        index(directory.path(), &[]).to_string(),
    )
    .unwrap();
    let mut launcher = launcher(&directory, |command| {
        command.args(["--registry", "index.json"]);
    });
    let first = given(&mut launcher)["process"].clone();
    assert_eq!(given(&mut launcher)["process"], first);
    let killed = Command::new("kill")
        .args(["-9", &first.to_string()])
        .status();
    assert!(killed.unwrap().success());
    let begun = Instant::now();
    let second = loop {
        let answer = launcher.ask("g", "agent", "_given", &json!({}));
        if let Some(given) = answer.get("result") {
            break given["process"].clone();
        }
        // It was asked before its end was seen, and whoever asked is told to ask again.
        let why = answer["error"]["message"].as_str().unwrap();
        assert!(why.contains("send the request again"), "{why}");
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it is not started again"
        );
    };
    assert!(second.is_u64() && second != first);
    launcher.end();
}

#[test]
fn a_worker_that_does_not_exist_is_refused_and_those_that_do_are_shown() {
    for (words, shown) in [
        (
            &["worker"][..],
            &["echo", "mcp-echo", "acp", "registry", "mcp-proxy"][..],
        ),
        (&["worker", "nonsense"], &["nonsense", "--help"]),
    ] {
        let output = Command::new(PROGRAM).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        for word in shown {
            assert!(said.contains(word), "no {word} in {said}");
        }
    }
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
