//! `agentbus doctor` finds what is wrong, changes nothing, and says what to do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/serving.rs"]
mod serving;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use serving::{SERVE, Serving, agentbus};

/// The exit code of something that is wrong.
const UNWELL: i32 = 11;

/// The program where no bus runs at the usual place.
fn alone(dir: &Path) -> Command {
    let mut command = agentbus(dir);
    command.env("AGENTBUS_URL", "http://127.0.0.1:1");
    command
}

/// What `doctor --json` found.
struct Found {
    checks: Vec<Value>,
    output: Output,
}

impl Found {
    fn run(command: &mut Command) -> Self {
        let output = command.args(["doctor", "--json"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        let checks = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{error}"));
        Self { checks, output }
    }

    fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    #[track_caller]
    fn check(&self, name: &str) -> &Value {
        let found = self.checks.iter().find(|check| check["check"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.checks))
    }

    #[track_caller]
    fn is(&self, name: &str, state: &str, says: &str) {
        let check = self.check(name);
        assert_eq!(check["state"], state, "{check}");
        let told = format!("{}; {}", check["detail"], check["hint"]);
        assert!(told.contains(says), "{check}");
        let has_hint = check["hint"] != "";
        assert_eq!(has_hint, state != "ok", "{check}");
    }
}

fn serve(dir: &Path, more: &[&str]) -> Serving {
    let mut serve = alone(dir);
    serve.args(SERVE).args(["--log", "warn"]).args(more);
    Serving::start(&mut serve)
}

/// All files of a directory, with what is in them. What readers of a database share is memory.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let listed = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let named = listed.filter(|entry| entry.file_type().unwrap().is_file());
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).unwrap())
    };
    let kept = |(name, _): &(String, Vec<u8>)| !name.ends_with("-shm");
    let mut all: Vec<_> = named.map(read).filter(kept).collect();
    all.sort();
    all
}

#[test]
fn a_healthy_bus_is_well_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = format!("sqlite://{}/bus.db", dir.path().display());
    let mut bus = serve(dir.path(), &["--transport", &log]);
    let mut doctor = alone(dir.path());
    doctor
        .env("AGENTBUS_URL", &bus.url)
        .env("AGENTBUS_TRANSPORT", &log);
    let found = Found::run(&mut doctor);
    for check in &found.checks {
        assert_ne!(check["state"], "wrong", "{check}");
    }
    assert_eq!(found.code(), Some(0));
    found.is("configuration", "ok", "agentbus.toml");
    found.is("data directory", "ok", "data");
    found.is("token file", "ok", "token");
    found.is("database of the conversations", "ok", "chat.db");
    found.is("database of the sessions", "ok", "sessions.db");
    found.is("database of the log", "ok", "bus.db");
    found.is("address", "ok", env!("CARGO_PKG_VERSION"));
    found.is("token", "ok", "opens the bus");
    found.is("transport", "ok", "durable subscriptions");

    bus.process.end();
    let data = dir.path().join("data");
    let before = (files(dir.path()), files(&data));
    let mut doctor = alone(dir.path());
    doctor
        .env("AGENTBUS_URL", &bus.url)
        .env("AGENTBUS_TRANSPORT", &log);
    let found = Found::run(&mut doctor);
    found.is("address", "warning", "agentbus serve");
    assert_eq!(
        found.code(),
        Some(0),
        "a bus that is not running is not wrong"
    );
    assert_eq!(before, (files(dir.path()), files(&data)));
}

#[test]
fn a_line_for_each_check_and_a_sentence_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let said = alone(dir.path()).arg("doctor").output().unwrap();
    assert_eq!(said.status.code(), Some(0));
    let lines = String::from_utf8(said.stdout).unwrap();
    for line in lines.lines() {
        let state = line.split(' ').next().unwrap();
        assert!(["ok", "warning"].contains(&state), "{line}");
    }
    assert!(lines.contains("warning  data directory: "), "{lines}");
    assert!(!dir.path().join("data").exists(), "it makes nothing");

    fs::write(dir.path().join("data"), "").unwrap();
    let said = alone(dir.path()).arg("doctor").output().unwrap();
    assert_eq!(said.status.code(), Some(UNWELL));
    let lines = String::from_utf8(said.stdout).unwrap();
    assert!(lines.contains("wrong    data directory: "), "{lines}");
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(error.contains("checks found something wrong"), "{error}");
}

#[test]
fn what_others_may_use_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(data.join("token"), "a-token\n").unwrap();
    fs::set_permissions(data.join("token"), PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(data.join("chat.db"), "no database ".repeat(100)).unwrap();
    let found = Found::run(&mut alone(dir.path()));
    assert_eq!(found.code(), Some(UNWELL));
    found.is("data directory", "wrong", "chmod 700");
    found.is("token file", "wrong", "chmod 600");
    found.is(
        "database of the conversations",
        "wrong",
        "no SQLite database",
    );
    let mode = fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "it repairs nothing");
}

#[test]
fn a_port_that_is_no_bus_is_told_and_shown_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("token"), "a-secret-of-this-machine\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = [0; 4096];
        let length = stream.read(&mut heard).unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
        stream.write_all(answer).unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    });
    let found = Found::run(alone(dir.path()).env("AGENTBUS_URL", &url));
    assert_eq!(found.code(), Some(UNWELL));
    found.is("address", "wrong", "does not answer as an agentbus");
    let heard = other.join().unwrap();
    assert!(heard.starts_with("GET /healthz "), "{heard}");
    assert!(!heard.contains("a-secret"), "{heard}");
}

#[test]
fn a_wrong_token_does_not_open_the_bus() {
    let dir = tempfile::tempdir().unwrap();
    let bus = serve(dir.path(), &[]);
    let mut doctor = alone(dir.path());
    doctor
        .env("AGENTBUS_URL", &bus.url)
        .env("AGENTBUS_TOKEN", "this-is-another-token");
    let found = Found::run(&mut doctor);
    assert_eq!(found.code(), Some(UNWELL));
    found.is("address", "ok", "listens at");
    found.is("token", "wrong", "AGENTBUS_TOKEN");
    let said = String::from_utf8_lossy(&found.output.stdout);
    assert!(!said.contains("this-is-another-token"), "{said}");
}

#[test]
fn a_broken_configuration_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bus.toml");
    fs::write(&file, "liste = \"127.0.0.1:0\"\n").unwrap();
    let found = Found::run(alone(dir.path()).arg("--config").arg(&file));
    assert_eq!(found.code(), Some(UNWELL));
    found.is("configuration", "wrong", "did you mean `listen`?");
    // The rest is looked at all the same.
    found.is("transport", "ok", "memory://");
}

#[test]
fn a_program_that_is_missing_or_cannot_run_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    let config = format!(
        "[[pools]]\nid = \"there\"\ncommand = \"cat\"\ninstances = 1\n\
         [[pools]]\nid = \"plain\"\ncommand = \"{}\"\ninstances = 1\n\
         [[agents]]\nname = \"gone\"\ncommand = [\"no-such-program-anywhere\"]\n",
        plain.display()
    );
    let file = dir.path().join("bus.toml");
    fs::write(&file, config).unwrap();
    let found = Found::run(alone(dir.path()).arg("--config").arg(&file));
    assert_eq!(found.code(), Some(UNWELL));
    found.is("configuration", "ok", "bus.toml");
    found.is("program of the pool there", "ok", "/cat");
    found.is("program of the pool plain", "wrong", "chmod +x");
    found.is(
        "program of the agent gone",
        "wrong",
        "no program no-such-program-anywhere",
    );
}

#[test]
fn a_password_is_not_printed() {
    let dir = tempfile::tempdir().unwrap();
    let mut doctor = alone(dir.path());
    doctor
        .env("AGENTBUS_TRANSPORT", "redis://user:hunter2@127.0.0.1:1")
        .env(
            "AGENTBUS_CHAT_STORE",
            "postgresql://user:hunter2@127.0.0.1:1/bus",
        );
    let found = Found::run(&mut doctor);
    assert_eq!(found.code(), Some(UNWELL));
    found.is("transport", "wrong", "redis://");
    found.is("store of conversations", "wrong", "127.0.0.1:1/bus");
    found.is("store of conversations", "wrong", "nobody listens there");
    let Output { stdout, stderr, .. } = &found.output;
    let said = [stdout.as_slice(), stderr.as_slice()].concat();
    assert!(!String::from_utf8_lossy(&said).contains("hunter2"));
}

/// A password stands where the driver looks for it, and where it was written by mistake.
#[test]
fn no_way_to_write_the_store_tells_its_password() {
    let dir = tempfile::tempdir().unwrap();
    for url in [
        "postgresql://user@127.0.0.1:1/bus?password=hun@ter2",
        "postgresql://127.0.0.1:1/bus?user=u&password=hun@ter2",
        "postgresql://user:ter2%40127.0.0.1/bus",
        "postgresql://user:ter2/bus",
        "mysql://user:ter2@127.0.0.1/bus",
        "host=127.0.0.1 port=1 user=u password=ter2",
    ] {
        for verb in ["doctor", "config"] {
            let mut command = alone(dir.path());
            let command = command.arg(verb).env("AGENTBUS_CHAT_STORE", url);
            let Output { stdout, stderr, .. } = command.output().unwrap();
            let said = [stdout, stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(!said.contains("ter2"), "{verb} {url}: {said}");
        }
    }
}
