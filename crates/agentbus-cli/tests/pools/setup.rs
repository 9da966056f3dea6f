//! Flags, configuration and sockets.

use std::io::Write;
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

/// Runs a bus that has nothing to do, and returns its exit code and what it logged.
fn run(config: &str, flags: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bus.json"), config).unwrap();
    let output = program()
        .args(["stdio", "--config", "bus.json"])
        .args(flags)
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
