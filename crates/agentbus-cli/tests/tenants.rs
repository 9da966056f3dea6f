//! Tenants and the subject prefix from the command line: over a running bus, and over a transport.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/serving.rs"]
mod serving;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use serving::{Running, SERVE, Serving, agentbus};

const LOG: [&str; 2] = ["--transport", "sqlite://bus.db"];

/// The program at the bus with this URL.
fn at(dir: &Path, url: &str) -> Command {
    let mut command = agentbus(dir);
    command.env("AGENTBUS_URL", url);
    command
}

fn serve(dir: &Path, args: &[&str]) -> Serving {
    let mut command = agentbus(dir);
    let command = command.args(SERVE).args(["--log", "warn"]);
    Serving::start(command.args(args))
}

fn run(dir: &Path, url: &str, args: &[&str]) -> Output {
    at(dir, url).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn says(dir: &Path, url: &str, args: &[&str], want: &str) {
    let output = run(dir, url, args);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim_end(), want, "{args:?}: {}", stderr(&output));
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
}

#[track_caller]
fn fails(dir: &Path, url: &str, args: &[&str], exit: i32, says: &str) {
    let output = run(dir, url, args);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(exit), "{args:?}: {said}");
    assert!(said.contains(says), "{args:?}: {said}");
}

/// Starts a program that stays, and waits until it says that it is ready.
fn background(dir: &Path, url: &str, args: &[&str], ready: &str) -> Running {
    let mut command = at(dir, url);
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(piped.args(args).spawn().unwrap());
    let mut said = BufReader::new(running.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(ready) {
        line.clear();
        let read = said.read_line(&mut line).unwrap();
        assert_ne!(read, 0, "{args:?} ended early");
    }
    running
}

/// All that it prints until it ends.
fn printed(mut running: Running) -> String {
    let mut text = String::new();
    let mut output = running.0.stdout.take().unwrap();
    output.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_target_of_a_tenant_answers_its_tenant_only() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, server) = (dir.path(), serve(dir.path(), &[]));
    let url = &server.url;
    let handle = ["handle", "count", "--tenant", "acme", "--", "wc", "-w"];
    let _acme = background(dir, url, &handle, "serving count");
    let invoke = ["invoke", "count", "\"a b c\""];
    let asking = |tenant| [&invoke[..], &["--tenant", tenant]].concat();
    says(dir, url, &asking("acme"), "3");
    fails(dir, url, &invoke, 6, "nobody serves `count`");
    // What it says to do is about the tenant that was asked.
    let hint = "`agentbus handle --tenant other count -- CMD`";
    fails(dir, url, &asking("other"), 6, hint);
    let streamed = [&asking("other")[..], &["--stream"]].concat();
    fails(dir, url, &streamed, 6, hint);
    let confirmed = ["pub", "--confirm", "a.b", "--tenant", "other"];
    let hint = "`agentbus sub --tenant other a.b` would";
    fails(dir, url, &confirmed, 6, hint);
    let listed = run(dir, url, &["targets"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("in the tenant acme"), "{listed}");
    // The variable says the same as the flag, and an empty one nothing.
    for (tenant, exit) in [("acme", 0), ("", 6)] {
        let mut command = at(dir, url);
        let asked = command.env("AGENTBUS_TENANT", tenant).args(invoke).output();
        let asked = asked.unwrap();
        assert_eq!(asked.status.code(), Some(exit), "{}", stderr(&asked));
    }
}

/// What a client of `agentbus mcp` gets that calls the target `count`.
fn counted_over_mcp(dir: &Path, url: &str, args: &[&str]) -> String {
    let client = json!({ "name": "test", "version": "1" });
    let hello =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    let arguments = json!({ "target": "count", "payload": "a b c" });
    let call = json!({ "name": "agent_invoke", "arguments": arguments });
    let lines = [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call }),
    ];
    let lines = lines.map(|line| format!("{line}\n")).concat();
    let mut command = at(dir, url);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).args(args).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let mut answers = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let answer = answers.find(|answer| answer["id"] == 2);
    let answer = answer.unwrap_or_else(|| panic!("{args:?}: {}", stderr(&output)));
    answer["result"]["structuredContent"].to_string()
}

#[test]
fn a_client_of_mcp_calls_in_the_tenant_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, server) = (dir.path(), serve(dir.path(), &[]));
    let url = &server.url;
    let handle = ["handle", "count", "--tenant", "acme", "--", "wc", "-w"];
    let _acme = background(dir, url, &handle, "serving count");
    let named = dir.join("named.toml");
    std::fs::write(&named, "tenant = \"acme\"").unwrap();
    let named = named.to_str().unwrap();
    let check = |args: &[&str], says: &str| {
        let said = counted_over_mcp(dir, url, args);
        assert!(said.contains(says), "{args:?}: {said}");
    };
    check(&["mcp", "--tenant", "acme"], r#""reply":3"#);
    check(&["--config", named, "mcp"], r#""reply":3"#);
    check(&["mcp"], "nobody serves");
    let other = ["--config", named, "mcp", "--tenant", "other"];
    check(&other, "nobody serves");
    check(&["--config", named, "mcp", "--tenant", ""], "nobody serves");
    // A file that nobody named has no say in it, however it is written.
    std::fs::write(dir.join("agentbus.toml"), "tenant = \"acme\"").unwrap();
    check(&["mcp"], "nobody serves");
    std::fs::write(dir.join("bad.toml"), "tenant = \"a.b\"").unwrap();
    let bad = ["--config", "bad.toml", "mcp"];
    fails(dir, url, &bad, 3, "tenant: `a.b` cannot name a tenant");
}

#[test]
fn events_of_a_tenant_are_heard_there_only() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, server) = (dir.path(), serve(dir.path(), &[]));
    let url = &server.url;
    let sub = ["sub", "order.>", "--count", "1"];
    let of_acme = [&sub[..], &["--tenant", "acme"]].concat();
    let acme = background(dir, url, &of_acme, "listening");
    let plain = background(dir, url, &sub, "listening");
    let publish = |args: &[&str]| says(dir, url, &[&["pub", "order.paid"], args].concat(), "");
    publish(&["1", "--tenant", "other"]);
    publish(&["2", "--tenant", "acme"]);
    publish(&["3"]);
    assert_eq!(printed(acme), "order.paid 2\n");
    assert_eq!(printed(plain), "order.paid 3\n");
}

#[test]
fn a_bus_of_a_tenant_takes_those_who_join_it_into_its_subjects() {
    let dir = tempfile::tempdir().unwrap();
    let worker = env!("CARGO_BIN_EXE_agentbus");
    let config = format!(
        "tenant = \"acme\"\n[[pools]]\nid = \"p\"\ncommand = {worker:?}\nargs = [\"worker\", \"echo\"]\ninstances = 1\n"
    );
    std::fs::write(dir.path().join("bus.toml"), config).unwrap();
    let options = ["--config", "bus.toml", "--subject-prefix", "corp.bus"];
    let (dir, server) = (dir.path(), serve(dir.path(), &options));
    let url = &server.url;
    let handle = ["handle", "count", "--", "wc", "-w"];
    let _agent = background(dir, url, &handle, "serving count");
    let invoke = ["invoke", "count", "\"a b c\""];
    let asking = |more: [&'static str; 2]| [&invoke[..], &more[..]].concat();
    says(dir, url, &invoke, "3");
    says(dir, url, &asking(["--tenant", "acme"]), "3");
    says(dir, url, &asking(["--subject-prefix", "corp.bus"]), "3");
    fails(dir, url, &asking(["--tenant", "other"]), 6, "nobody serves");
    let usual = asking(["--subject-prefix", "acp.v1"]);
    fails(dir, url, &usual, 2, "has the subject prefix `corp.bus`");
    let named = ["mcp", "--subject-prefix", "corp.bus"];
    let counted = counted_over_mcp(dir, url, &named);
    assert!(counted.contains(r#""reply":3"#), "{counted}");
    for verb in ["mcp", "acp"] {
        let usual = [verb, "--subject-prefix", "acp.v1"];
        fails(dir, url, &usual, 2, "has the subject prefix `corp.bus`");
    }
    let order = r#"{"method":"echo","params":{"x":1}}"#;
    let echo = run(dir, url, &["invoke", "p", order]);
    let echo: Value = serde_json::from_slice(&echo.stdout).unwrap();
    assert_eq!(echo["echo"], json!({"x": 1}));
    fails(
        dir,
        url,
        &["invoke", "p", order, "--tenant", "other"],
        6,
        "nobody serves `p`",
    );
    let pools = run(dir, url, &["pool", "list"]);
    assert!(pools.status.success(), "{}", stderr(&pools));
}

#[test]
fn the_prefix_in_a_file_that_was_named_is_that_of_the_bus_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let corp = ["--subject-prefix", "corp.bus"];
    let (dir, server) = (dir.path(), serve(dir.path(), &corp));
    let url = &server.url;
    let handle = ["handle", "count", "--", "wc", "-w"];
    let _agent = background(dir, url, &handle, "serving count");
    let write = |file: &str, text: &str| std::fs::write(dir.join(file), text).unwrap();
    let counts = |args: &[&str]| {
        let counted = counted_over_mcp(dir, url, args);
        assert!(counted.contains(r#""reply":3"#), "{args:?}: {counted}");
    };
    write("open.toml", "drain_s = 1");
    write("same.toml", "subject_prefix = \"corp.bus\"");
    counts(&["--config", "open.toml", "mcp"]);
    counts(&["--config", "same.toml", "mcp"]);
    // What a file writes down is meant, also where it is the usual prefix.
    for prefix in ["corp.other", "acp.v1"] {
        write("other.toml", &format!("subject_prefix = {prefix:?}"));
        let why = format!(
            "has the subject prefix `corp.bus`, which is set where that bus is started, and takes nothing under \
             `{prefix}`, the `subject_prefix` in other.toml; leave it out there"
        );
        for verb in ["mcp", "acp"] {
            let asked = ["--config", "other.toml", verb];
            fails(dir, url, &asked, 3, &why);
            // A tenant that is named does not decide about the prefix.
            let within = [&asked[..], &["--tenant", "acme"]].concat();
            fails(dir, url, &within, 3, &why);
        }
        counts(&[&["--config", "other.toml", "mcp"][..], &corp].concat());
    }
    // A file that nobody named has no say in it.
    write("agentbus.toml", "subject_prefix = \"corp.other\"");
    counts(&["mcp"]);
}

#[test]
fn a_log_is_read_in_the_tenant_and_under_the_prefix_that_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let acme = ["--tenant", "acme", "--subject-prefix", "corp.bus"];
    let over = |args: &[&'static str], more: &[&'static str]| [args, &LOG[..], more].concat();
    says(dir, "", &over(&["pub", "kept", "1"], &acme), "");
    says(dir, "", &over(&["pub", "kept", "2"], &acme[..2]), "");
    says(dir, "", &over(&["pub", "kept", "3"], &[]), "");
    let read = ["sub", ">", "--from", "beginning", "--count", "1"];
    says(dir, "", &over(&read, &acme), "kept 1");
    says(dir, "", &over(&read, &acme[..2]), "kept 2");
    says(dir, "", &over(&read, &[]), "kept 3");
    // A bus over the log serves them where it is told that they are.
    let mut options = LOG.to_vec();
    options.extend(acme);
    let server = serve(dir, &options);
    says(dir, &server.url, &read, "kept 1");
    drop(server);
    let bridge = [
        "bridge",
        "sqlite://bus.db",
        "sqlite://to.db",
        "--until-idle",
        "1",
    ];
    for more in [&acme[..], &[]] {
        says(dir, "", &[&bridge[..], more].concat(), "copied 1 event");
    }
    let there = ["--transport", "sqlite://to.db"];
    says(
        dir,
        "",
        &[&read[..], &there[..], &acme[..]].concat(),
        "kept 1",
    );
    says(dir, "", &[&read[..], &there[..]].concat(), "kept 3");
}

#[test]
fn a_name_that_no_subject_can_hold_is_refused_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let verbs: [&[&str]; 7] = [
        &["serve"],
        &["pub", "x"],
        &["sub", "x"],
        &["invoke", "x"],
        &["pool"],
        &["bridge", "sqlite://bus.db", "sqlite://to.db"],
        &["config"],
    ];
    for verb in verbs {
        let tail: &[&str] = match verb {
            ["pool"] => &["list"],
            _ => &[],
        };
        for (flag, name, why) in [
            ("--tenant", "a.b", "`a.b` cannot name a tenant"),
            ("--tenant", "events", "none of events, invoke, cancel, dlq"),
            ("--tenant", ">", "the tenant `>` contains '>'"),
            ("--subject-prefix", "a..b", "has an empty token"),
            ("--subject-prefix", "a.*", "the prefix `a.*` contains '*'"),
            ("--subject-prefix", "", "the prefix is empty"),
            ("--subject-prefix", "_INBOX.bus", "the inboxes of callers"),
            ("--subject-prefix", "$JS", "is a NATS server's own"),
            ("--subject-prefix", "my.events", "because of `events`"),
        ] {
            let asked = [verb, &[flag, name], tail].concat();
            let asked = match verb {
                ["serve" | "config" | "bridge", ..] => asked,
                _ => [&LOG[..], &asked[..]].concat(),
            };
            fails(dir, "", &asked, 2, why);
        }
    }
    let handle = ["handle", "x", "--tenant", "a.b", "--", "cat"];
    fails(dir, "", &handle, 2, "`a.b` cannot name a tenant");
    std::fs::write(dir.join("bus.toml"), "tenant = \"a.b\"").unwrap();
    let file = ["serve", "--config", "bus.toml"];
    fails(dir, "", &file, 3, "tenant: `a.b` cannot name a tenant");
    let left = std::fs::read_dir(dir).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["bus.toml"]);
}
