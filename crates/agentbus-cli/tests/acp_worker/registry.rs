//! The registry launcher, with the worker as its agent.

use std::cell::RefCell;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::frames::{Frames, From};
use crate::tap::{PROGRAM, Tap};

/// Longest that anything may take. Nothing waits this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker whose client holds every frame against the schema.
pub(crate) struct Launcher {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// None if it speaks something else than ACP.
    frames: Option<RefCell<Frames>>,
}

impl Launcher {
    fn start(directory: &Path, words: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command
            .args(["worker", "registry", "--data-dir"])
            .arg(directory.join("registry"))
            .args(words)
            .current_dir(directory);
        Self::of(command)
    }

    pub(crate) fn of(command: Command) -> Self {
        Self {
            frames: Some(RefCell::new(Frames::new())),
            ..Self::of_another(command)
        }
    }

    /// A worker that speaks something else than ACP.
    pub(crate) fn of_another(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (to_test, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = to_test.send(line);
            }
        });
        Self {
            child,
            stdin,
            lines,
            frames: None,
        }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        let mut stdin = self.stdin.as_ref().unwrap();
        self.check(From::Client, &message.to_string());
        writeln!(stdin, "{message}").unwrap();
    }

    pub(crate) fn read(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).unwrap();
        self.check(From::Agent, &line)
    }

    fn check(&self, from: From, line: &str) -> Value {
        match &self.frames {
            Some(frames) => frames.borrow_mut().check(from, line),
            None => serde_json::from_str(line).unwrap(),
        }
    }

    /// Reads until the answer with this id; what comes before it is passed over.
    pub(crate) fn answer(&self, id: &Value) -> Value {
        loop {
            let frame = self.read();
            if frame["id"] == *id && frame.get("method").is_none() {
                return frame;
            }
        }
    }

    pub(crate) fn ask(&mut self, id: &str, agent: &str, method: &str, params: &Value) -> Value {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "agentId": agent, "sessionId": "r", "method": method, "params": params }));
        self.answer(&json!(id))
    }

    /// Sends a signal; returns the exit code.
    pub(crate) fn signal(mut self, name: &str) -> Option<i32> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code()
    }

    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

fn entry(id: &str, distribution: &Value) -> Value {
    json!({ "id": id, "name": id, "version": "1.0.0", "description": "d", "distribution": distribution })
}

fn platform() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

pub(crate) fn binary(id: &str, cmd: &str, args: &[&str]) -> Value {
    entry(
        id,
        &json!({ "binary": { platform(): { "cmd": cmd, "args": args } } }),
    )
}

/// An index with a worker, one whose program is missing, and one for no machine.
fn index(directory: &Path) -> String {
    let data = directory.join("data");
    let worker = binary(
        "echo",
        PROGRAM,
        &["worker", "acp", "--data-dir", data.to_str().unwrap()],
    );
    let agents = json!([
        worker,
        binary("missing", "/nowhere/agent", &[]),
        entry("elsewhere", &json!({ "binary": { "plan9-mips": { "cmd": "x" } } })),
        binary("silent", "sleep", &["600"]),
        { "id": "broken" },
    ]);
    json!({ "version": "1.0.0", "agents": agents }).to_string()
}

fn written() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("index.json");
    std::fs::write(&file, index(directory.path())).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (directory, file)
}

#[test]
fn a_turn_goes_through_and_the_client_is_asked_for_permission() {
    let directory = tempfile::tempdir().unwrap();
    let tap = Tap::worker();
    let agents = json!([binary("echo", tap.command().to_str().unwrap(), &[])]);
    let index = json!({ "version": "1", "agents": agents });
    std::fs::write(directory.path().join("index.json"), index.to_string()).unwrap();
    let mut launcher = Launcher::start(directory.path(), &["--registry", "index.json"]);
    let said = launcher.ask("1", "echo", "initialize", &json!({ "protocolVersion": 1 }));
    assert_eq!(said["result"]["agentInfo"]["name"], "agentbus-worker");
    assert_eq!(said["sessionId"], "r");
    let servers =
        json!([{ "name": "e", "command": PROGRAM, "args": ["worker", "mcp-echo"], "env": [] }]);
    let made = launcher.ask(
        "2",
        "echo",
        "session/new",
        &json!({ "cwd": "/", "mcpServers": servers }),
    );
    let session = made["result"]["sessionId"].clone();
    let text = "/tool reverse {\"text\":\"abc\"}";
    let prompt = json!({ "sessionId": session, "prompt": [{ "type": "text", "text": text }] });
    launcher.send(&json!({ "jsonrpc": "2.0", "id": "3", "agentId": "echo", "sessionId": "r", "method": "session/prompt", "params": prompt }));
    let mut told = String::new();
    loop {
        let frame = launcher.read();
        assert_eq!(frame["sessionId"], "r", "{frame}");
        if frame["method"] == "session/request_permission" {
            let chosen = json!({ "outcome": { "outcome": "selected", "optionId": "allow_once" } });
            launcher.send(&json!({ "jsonrpc": "2.0", "id": frame["id"], "result": chosen }));
        }
        told.push_str(
            frame["params"]["update"]["content"]["text"]
                .as_str()
                .unwrap_or_default(),
        );
        if frame["id"] == "3" {
            assert_eq!(frame["result"]["stopReason"], "end_turn");
            break;
        }
    }
    assert_eq!(told, "cba");
    launcher.end();
    assert!(tap.check() > 10, "what the agent was told is no ACP");
}

#[test]
fn agents_that_cannot_be_started_are_refused_with_their_codes() {
    let (directory, file) = written();
    let mut launcher = Launcher::start(directory.path(), &["--registry", &file]);
    for (agent, code, why) in [
        ("missing", -32003, "/nowhere/agent"),
        ("elsewhere", -32002, "elsewhere"),
        ("broken", -32001, "broken"),
        ("nobody", -32001, "nobody"),
    ] {
        let hello = json!({ "protocolVersion": 1 });
        let error = launcher.ask("1", agent, "initialize", &hello)["error"].clone();
        assert_eq!(
            (&error["code"], &error["data"]["agentId"]),
            (&json!(code), &json!(agent)),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
    }
    launcher.end();
}

#[test]
fn an_agent_that_is_killed_answers_at_once_and_is_started_again() {
    let (directory, file) = written();
    let mut launcher = Launcher::start(directory.path(), &["--registry", &file]);
    launcher
        .send(&json!({ "jsonrpc": "2.0", "id": 1, "agentId": "silent", "method": "initialize", "params": { "protocolVersion": 1 } }));
    // The launcher has dealt with it once it answers this.
    launcher.send(&json!({ "jsonrpc": "2.0", "id": 2, "method": "initialize", "params": { "protocolVersion": 1 } }));
    launcher.answer(&json!(2));
    let agent = child_of(launcher.child.id());
    let killed = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-9", &agent])
            .status()
            .unwrap()
            .success()
    );
    let error = launcher.answer(&json!(1))["error"].clone();
    assert!(
        killed.elapsed() < Duration::from_secs(30),
        "{:?}",
        killed.elapsed()
    );
    assert!(
        error["data"]["ended"].as_str().unwrap().contains("killed"),
        "{error}"
    );
    let said = launcher.ask("3", "echo", "initialize", &json!({ "protocolVersion": 1 }));
    assert_eq!(said["result"]["protocolVersion"], 1);
    launcher.end();
}

/// Waits for the process that another one started, and returns its number.
fn child_of(parent: u32) -> String {
    let begun = Instant::now();
    loop {
        let found = Command::new("pgrep")
            .args(["-P", &parent.to_string()])
            .output()
            .unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        if let Some(child) = found.lines().next() {
            return child.to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "the agent was not started");
        std::thread::yield_now();
    }
}

/// Serves these bodies, one a connection, and then nothing.
fn web(bodies: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for body in bodies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            )
            .unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    url
}

#[test]
fn an_index_from_a_url_is_kept_for_when_there_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let url = web(vec![index(directory.path()).into_bytes()]) + "/registry.json";
    for words in [
        vec!["--registry", &url],
        vec!["--registry", &url],
        vec!["--registry", &url, "--offline"],
    ] {
        let mut launcher = Launcher::start(directory.path(), &words);
        let said = launcher.ask("1", "echo", "initialize", &json!({ "protocolVersion": 1 }));
        assert_eq!(said["result"]["protocolVersion"], 1, "{words:?}");
        launcher.end();
    }
}

#[test]
fn a_program_in_an_archive_is_fetched_checked_and_started() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!("#!/bin/sh\nexec '{PROGRAM}' worker acp --data-dir data\n");
    std::fs::write(directory.path().join("agent.sh"), script).unwrap();
    let shell = |command: &str| {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let digest = shell("chmod +x agent.sh && tar -czf a.tar.gz agent.sh && sha256sum a.tar.gz");
    let digest = digest.split(' ').next().unwrap();
    let archive = std::fs::read(directory.path().join("a.tar.gz")).unwrap();
    let url = web(vec![archive.clone(), archive]) + "/a.tar.gz";
    let distribution = json!({ "binary": { platform(): { "archive": url, "cmd": "./agent.sh" } } });
    let index = json!({ "version": "1", "agents": [entry("packed", &distribution)] });
    std::fs::write(directory.path().join("index.json"), index.to_string()).unwrap();
    for (pin, starts) in [
        (json!({ "sha256": "00" }), false),
        (json!({ "version": "2.0.0" }), false),
        (json!({ "sha256": digest, "version": "1.0.0" }), true),
        // It is there already, and needs no network.
        (json!({}), true),
        // A pin that comes later is held against what was unpacked before it.
        (json!({ "sha256": "00" }), false),
    ] {
        std::fs::write(
            directory.path().join("pins.json"),
            json!({ "packed": pin }).to_string(),
        )
        .unwrap();
        let mut launcher = Launcher::start(
            directory.path(),
            &["--registry", "index.json", "--pins", "pins.json"],
        );
        let said = launcher.ask(
            "1",
            "packed",
            "initialize",
            &json!({ "protocolVersion": 1 }),
        );
        match starts {
            true => assert_eq!(said["result"]["protocolVersion"], 1, "{said}"),
            false => {
                assert_eq!(said["error"]["code"], -32003, "{said}");
                assert!(
                    said["error"]["message"]
                        .as_str()
                        .unwrap()
                        .contains("pinned"),
                    "{said}"
                );
            }
        }
        launcher.end();
    }
}

#[test]
fn the_status_of_keys_is_printed() {
    let (directory, file) = written();
    let keys = directory.path().join("keys.json");
    write_secret(&keys, "{\"agents\":{\"echo\":{\"apiKey\":\"k\"}}}");
    let status = || {
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "registry", "--auth-status", "--registry", &file]);
        command.arg("--api-keys").arg(&keys);
        let output = command
            .arg("--data-dir")
            .arg(directory.path())
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let said = status();
    assert!(said.contains("echo (echo 1.0.0): has a key"), "{said}");
    assert!(
        said.contains("missing (missing 1.0.0): needs none"),
        "{said}"
    );
    // Keys that others can read are not keys any more.
    std::fs::set_permissions(&keys, Permissions::from_mode(0o640)).unwrap();
    let said = status();
    assert!(
        said.contains("others may use it (mode 640)") && said.contains("chmod 600"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_read_stops_the_launcher_before_it_starts() {
    let (directory, _) = written();
    std::fs::write(directory.path().join("broken.json"), "{\"agents\":").unwrap();
    std::fs::write(directory.path().join("open.json"), "{\"agents\":{}}").unwrap();
    // Nobody listens at the first port, and none is given it by chance.
    let nowhere = "http://127.0.0.1:1/index.json";
    let good = ["--registry", "index.json"];
    for (words, code, why) in [
        (vec![], 3, "name an index with --registry"),
        (vec!["--registry", "missing.json"], 3, "missing.json"),
        (vec!["--registry", "broken.json"], 3, "broken.json"),
        (
            vec!["--registry", nowhere],
            3,
            "name another one with --registry",
        ),
        (vec!["--registry", nowhere, "--offline"], 3, "registry.json"),
        (
            [&good[..], &["--custom-agents", "broken.json"]].concat(),
            3,
            "broken.json",
        ),
        (
            [&good[..], &["--pins", "broken.json"]].concat(),
            3,
            "broken.json",
        ),
        (
            [&good[..], &["--providers", "broken.json"]].concat(),
            3,
            "broken.json",
        ),
        (
            [&good[..], &["--api-keys", "open.json"]].concat(),
            5,
            "chmod 600",
        ),
    ] {
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "registry", "--data-dir", "kept"]);
        let command = command.args(&words).current_dir(directory.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(why), "{words:?}: {said}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Asks an agent of this index with these pins, and expects to be refused with -32003.
fn refused(directory: &Path, agent: &Value, pins: &Value) -> String {
    let index = json!({ "version": "1", "agents": [agent] });
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    std::fs::write(directory.join("pins.json"), pins.to_string()).unwrap();
    let words = ["--registry", "index.json", "--pins", "pins.json"];
    let mut launcher = Launcher::start(directory, &words);
    let said = launcher.ask("1", "agent", "initialize", &json!({ "protocolVersion": 1 }));
    launcher.end();
    assert_eq!(said["error"]["code"], -32003, "{said}");
    said["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_pinned_hash_is_met_by_an_archive_or_nothing_starts() {
    let directory = tempfile::tempdir().unwrap();
    let pins = json!({ "agent": { "sha256": "00" } });
    let packages = [
        json!({ "npx": { "package": "a" } }),
        json!({ "uvx": { "package": "a" } }),
        json!({ "binary": { platform(): { "cmd": "/bin/cat" } } }),
    ];
    for distribution in packages {
        let said = refused(directory.path(), &entry("agent", &distribution), &pins);
        assert!(said.contains("a hash is pinned"), "{said}");
    }
}

#[test]
fn a_program_outside_of_its_archive_is_not_started() {
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new("sh")
        .args(["-c", "ln -s /bin/cat linked && tar -cf a.tar linked"])
        .current_dir(directory.path())
        .status();
    assert!(made.unwrap().success());
    let archive = std::fs::read(directory.path().join("a.tar")).unwrap();
    let url = web(vec![archive]) + "/a.tar";
    for command in ["/bin/cat", "../../../../../../bin/cat", "linked"] {
        let one = json!({ "archive": url, "cmd": command });
        let agent = entry("agent", &json!({ "binary": { platform(): one } }));
        let said = refused(directory.path(), &agent, &json!({}));
        assert!(said.contains("archive"), "{said}");
    }
}

#[test]
fn nothing_is_fetched_that_somebody_on_the_way_can_change() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let astray = format!("http://{}/index.json", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).unwrap();
        let there = "location: http://registry.example/index.json\r\ncontent-length: 0";
        write!(stream, "HTTP/1.1 302 Found\r\n{there}\r\n\r\n").unwrap();
    });
    for url in ["http://registry.example/index.json", &astray] {
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "registry", "--registry", url, "--data-dir"]);
        let output = command
            .arg(directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(
            said.contains("registry.example/index.json is not reached by https"),
            "{said}"
        );
    }
}
