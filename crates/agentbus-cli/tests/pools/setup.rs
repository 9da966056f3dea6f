//! Flags, configuration and sockets.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

#[test]
fn v41_the_configuration_may_come_late_over_a_descriptor() {
    // The bus gets the shell's standard input as its descriptor 3; its own is empty.
    let script = format!(
        "exec {} stdio --config-fd 3 3<&0 </dev/null",
        env!("CARGO_BIN_EXE_agentbus")
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut writer = child.stdin.take().unwrap();
    let text = one(1).to_string();
    let (first, second) = text.split_at(text.len() / 2);
    writer.write_all(first.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none(), "it waits for the rest");
    writer.write_all(second.as_bytes()).unwrap();
    drop(writer);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The program under the name of the daemon that it stands in for.
fn old_name(dir: &Path) -> PathBuf {
    let link = dir.join("stdio_bus");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_agentbus"), &link).unwrap();
    link
}

#[test]
fn v41_under_the_old_name_a_client_is_served_as_well() {
    let dir = tempfile::tempdir().unwrap();
    old_name(dir.path());
    std::fs::write(dir.path().join("bus.json"), one(1).to_string()).unwrap();
    // The writer closes later than the bus starts to read.
    let script =
        "exec 4<&0; (sleep 0.2; cat bus.json) | ./stdio_bus --config-fd 3 --stdio 3<&0 <&4";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = Client::of(&mut child);
    assert_eq!(client.call("echo", &json!("here")), "here");
    drop(client);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_old_name_has_its_own_help_and_a_version() {
    let dir = tempfile::tempdir().unwrap();
    let link = old_name(dir.path());
    let says = |flag: &str| {
        let output = Command::new(&link).arg(flag).output().unwrap();
        assert!(output.status.success(), "{flag}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(says("--help").contains("Usage: stdio_bus [OPTIONS]"));
    assert!(says("--version").contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn mistakes_have_a_sentence_and_an_exit_code() {
    let good = with("_", Value::Null);
    let cases: [(&str, &[&str], i32, &str); 7] = [
        (&good, &[], 2, "--config"),
        ("{}", &["--config", "bus.json"], 3, "at least one pool"),
        (&good, &["--config", "no.json"], 3, "cannot read no.json"),
        (
            &good,
            &["--config", "bus.json", "--config-fd", "0"],
            2,
            "not both",
        ),
        (
            &good,
            &["--config", "bus.json", "--tcp", "nonsense"],
            2,
            "HOST:PORT",
        ),
        (&good, &["--config-fd", "77"], 3, "cannot read /dev/fd/77"),
        (&good, &["--config-fd", "1025"], 2, "1025"),
    ];
    for (config, args, code, hint) in cases {
        let (found, said) = run_with(config, args);
        assert_eq!(found, Some(code), "{args:?}: {said}");
        assert!(said.contains(hint), "{args:?}: {said}");
    }
}

/// Runs a bus that has nothing to do, and returns its exit code and what it logged.
fn run(config: &str, flags: &[&str]) -> (Option<i32>, String) {
    run_with(config, &[&["--config", "bus.json"], flags].concat())
}

/// The same with all that stands behind the verb; the configuration is in `bus.json`.
fn run_with(config: &str, args: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bus.json"), config).unwrap();
    let output = program()
        .arg("stdio")
        .args(args)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.stdout.is_empty(),
        "standard output is for the protocol"
    );
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// One pool with a member set, or taken away.
fn with(member: &str, value: Value) -> String {
    let mut pool = json!({ "id": "p", "command": "cat", "args": [], "instances": 1 });
    pool[member] = value;
    json!({ "pools": [pool] }).to_string()
}

#[test]
fn v42_every_mistake_of_a_configuration_is_named_and_ends_with_code_3() {
    let limits = |limits: Value| {
        json!({ "pools": [{ "id": "p", "command": "cat", "instances": 1 }], "limits": limits })
            .to_string()
    };
    let transport = |key: &str, value: &str| {
        let pools = [json!({ "id": "p", "command": "cat", "instances": 1 })];
        json!({ "pools": pools, "transport": { key: value } }).to_string()
    };
    for (config, word) in [
        (String::new(), "empty"),
        ("[]".to_owned(), "begin it with {"),
        ("\u{feff}{}".to_owned(), "not a JSON object"),
        ("{}".to_owned(), "at least one pool"),
        (r#"{"pools":[]}"#.to_owned(), "at least one pool"),
        (with("id", json!("")), "id"),
        (with("id", Value::Null), "id"),
        (with("command", json!("")), "command"),
        (with("args", json!([1])), "args"),
        (with("args", json!("x")), "args"),
        (with("instances", Value::Null), "instances"),
        (with("instances", json!(0)), "instances"),
        (with("instances", json!(-1)), "instances"),
        (with("instances", json!(1.5)), "instances"),
        (with("instances", json!("2")), "instances"),
        (limits(json!({ "max_restarts": -1 })), "max_restarts"),
        (limits(json!({ "max_restarts": "5" })), "max_restarts"),
        (limits(json!(7)), "limits"),
        (transport("mode", "shm"), "use stdio, unix or tcp"),
        (transport("mode", "mqueue"), "use stdio, unix or tcp"),
        (transport("framing", "raw"), "use ndjson or length"),
        (transport("framing", "capnp"), "use ndjson or length"),
        (transport("protocol", "binary"), "use json"),
        // These have no place for an address.
        (transport("mode", "unix"), "--unix PATH"),
        (transport("mode", "tcp"), "--tcp HOST:PORT"),
        (r#"{"pools":[],"limits":"#.to_owned(), "EOF"),
        (
            format!("{}{}", " ".repeat(4 << 20), "{}"),
            "larger than 4194304 bytes",
        ),
    ] {
        let (code, said) = run(&config, &[]);
        assert_eq!(code, Some(3), "{config:.80}: {said}");
        assert!(
            said.contains("config:") && said.contains(word),
            "{config:.80}: {said}"
        );
    }
}

#[test]
fn v42_what_the_daemon_takes_is_taken() {
    let many = |count: usize| {
        let pool = |n: usize| json!({ "id": format!("p{n}"), "command": "cat", "instances": 1 });
        json!({ "pools": (0..count).map(pool).collect::<Vec<_>>() }).to_string()
    };
    let twice = json!({ "pools": [
        { "id": "p", "command": "cat", "instances": 1 },
        { "id": "p", "command": "cat", "instances": 1 },
    ]});
    for config in [
        with("_comment", json!("x")),
        with("id", json!("p".repeat(300))),
        with("args", json!(vec!["-u"; 300])),
        format!("{} and more", with("unknown", json!({}))),
        twice.to_string(),
        many(65),
    ] {
        let (code, said) = run(&config, &["--log", "error"]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{config:.80}");
    }
    let misspelt =
        r#"{"pools":[{"id":"p","command":"cat","instances":1}],"limits":{"max_restart":1}}"#;
    let (code, said) = run(misspelt, &[]);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("limits.max_restart") && said.contains("max_restarts"),
        "{said}"
    );
}

#[test]
fn of_several_places_the_last_one_counts() {
    let (code, _) = run(
        &one(1).to_string(),
        &["--unix", "/nowhere/at/all", "--stdio", "--log", "error"],
    );
    assert_eq!(code, Some(0));
    let (code, said) = run(
        &one(1).to_string(),
        &["--stdio", "--unix", "/nowhere/at/all"],
    );
    assert_eq!(code, Some(9));
    assert!(said.contains("/nowhere/at/all"), "{said}");
}

#[test]
fn v43_a_live_socket_is_refused_and_a_stale_one_replaced() {
    let mut bus = Bus::start(Via::Unix, &one(1));
    assert_eq!(bus.client().call("echo", &json!(1)), 1);
    let socket = bus.dir.path().join("s");
    let (code, said) = run(&one(1).to_string(), &["--unix", socket.to_str().unwrap()]);
    assert_eq!(code, Some(9));
    assert!(said.contains("another process listens"), "{said}");
    let file = bus.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let (code, said) = run(&one(1).to_string(), &["--unix", file.to_str().unwrap()]);
    assert_eq!(code, Some(9));
    assert!(said.contains("is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(bus.client().call("echo", &json!(2)), 2);
    bus.signal("-KILL");
    bus.ended();
    assert!(socket.exists(), "a killed bus leaves its socket");
    let (dir, config) = (
        bus.dir.path().to_owned(),
        bus.dir.path().join("config.json"),
    );
    bus.child = program()
        .args(["stdio", "--log", "error", "--config"])
        .arg(config)
        .args(["--unix", "s"])
        .current_dir(dir)
        .spawn()
        .unwrap();
    let mut client = eventually("the new bus answers", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()?;
        Some(bus.client())
    });
    assert_eq!(client.call("echo", &json!(3)), 3);
    bus.signal("-TERM");
    assert_eq!(bus.ended().code(), Some(0));
    assert!(
        !socket.exists(),
        "a bus that ends in peace takes its socket along"
    );
}
