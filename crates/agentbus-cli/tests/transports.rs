//! The transports from the command line: the page about them is true, and a log survives its bus.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../../agentbus-transport-redis/tests/support/ports.rs"]
mod ports;
#[path = "support/serving.rs"]
mod serving;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use serving::{SERVE, Serving, agentbus};

/// Longest time that anything may take. Nothing waits this long unless it is broken.
const GUARD: Duration = Duration::from_secs(120);

const BEGIN: &str = "<!-- semantics -->\n";
const END: &str = "<!-- /semantics -->\n";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/transports.md")
}

fn run(dir: &Path, args: &[&str]) -> Output {
    agentbus(dir).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_table_in_docs_is_what_the_transports_say() {
    let text = std::fs::read_to_string(page()).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let table = agentbus::transports::table();
    let expected = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("AGENTBUS_WRITE_DOCS").is_some() {
        std::fs::write(page(), &expected).unwrap();
        return;
    }
    assert_eq!(
        text, expected,
        "run this test with AGENTBUS_WRITE_DOCS=1 to write it anew"
    );
}

#[test]
fn semantics_prints_the_same_table() {
    let dir = tempfile::tempdir().unwrap();
    let printed = stdout(&run(dir.path(), &["semantics"]));
    for (question, answers) in agentbus::transports::rows() {
        let line = printed.lines().find(|line| line.starts_with(question));
        let line = line.unwrap_or_else(|| panic!("`{question}` is not in:\n{printed}"));
        assert!(answers.iter().all(|answer| line.contains(answer)), "{line}");
    }
    let objects = stdout(&run(dir.path(), &["semantics", "--json"]));
    let objects: Vec<Value> = objects
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = objects
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "memory",
            "sqlite",
            "nats",
            "jetstream",
            "redis",
            "kafka",
            "rabbitmq",
            "agentbus"
        ]
    );
    assert_eq!(objects[1]["an accepted publish is"], "disk");
}

/// A command of the page and what it prints.
#[derive(Debug, Default)]
struct Step {
    command: String,
    output: String,
}

/// The commands of all console blocks, in order.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    ..Step::default()
                }),
                (None, Some(step)) => step.output.push_str(&format!("{line}\n")),
                (None, None) => panic!("output before a command: {line}"),
            },
            (false, _) => {}
        }
    }
    steps
}

/// A NATS server with JetStream, which the page has on the usual port and the test on a free one.
struct Nats {
    server: Child,
    port: u16,
}

impl Nats {
    fn start(dir: &Path) -> Self {
        let port = ports::free_port();
        // Debian keeps it where an ordinary user's shell does not look.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
        let server = Command::new("nats-server")
            .env("PATH", path)
            .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
            .arg(dir.join("jetstream"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < GUARD, "no NATS server");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { server, port }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn the_walk_in_docs_goes_as_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(dir.path());
    let here = format!("127.0.0.1:{}", nats.port);
    let steps = steps(&std::fs::read_to_string(page()).unwrap());
    assert!(steps.len() > 8, "{steps:?}");
    // One shell for all, because the walk sets a variable; a mark after each command tells what is whose.
    let script: String = steps
        .iter()
        .map(|step| format!("{{ {}; }} 2>&1\necho '@@'\n", step.command))
        .collect();
    let script = script.replace("127.0.0.1:4222", &here);
    let bin = Path::new(env!("CARGO_BIN_EXE_agentbus")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let shell = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir.path())
        .env("PATH", path)
        .env("AGENTBUS_DATA_DIR", dir.path().join("data"))
        .env_remove("AGENTBUS_URL")
        .env_remove("AGENTBUS_TRANSPORT")
        .output()
        .unwrap();
    let printed = stdout(&shell).replace(&here, "127.0.0.1:4222");
    let outputs: Vec<_> = printed.split("@@\n").collect();
    for (step, output) in steps.iter().zip(&outputs) {
        assert_eq!(*output, step.output, "after `{}`", step.command);
    }
    assert_eq!(outputs.len(), steps.len() + 1);
}

/// Starts a bus over a log.
fn serve(dir: &Path) -> Serving {
    serve_over(dir, "sqlite://bus.db")
}

fn serve_over(dir: &Path, transport: &str) -> Serving {
    let mut serve = agentbus(dir);
    Serving::start(
        serve
            .args(SERVE)
            .args(["--log", "warn", "--transport", transport]),
    )
}

#[test]
fn what_a_killed_bus_had_accepted_is_there_when_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut accepted = Vec::new();
    for round in 0..3 {
        let server = serve(dir.path());
        for n in 0..4 {
            let payload = format!("{}", round * 10 + n);
            let published = run(dir.path(), &["--url", &server.url, "pub", "kept", &payload]);
            assert!(published.status.success(), "{}", stderr(&published));
            accepted.push(format!("kept {payload}"));
        }
        let second = ["sub", "kept", "--transport", "sqlite://bus.db"];
        let second = run(dir.path(), &second);
        assert_eq!(second.status.code(), Some(9), "{}", stderr(&second));
        let holder = format!("process {}", server.process.0.id());
        assert!(stderr(&second).contains(&holder), "{}", stderr(&second));
        drop(server);
    }
    let count = accepted.len().to_string();
    let replay = ["sub", "kept", "--from", "beginning", "--count", &count];
    let replayed = agentbus(dir.path())
        .args(replay)
        .args(["--transport", "sqlite://bus.db"])
        .output()
        .unwrap();
    let seen: Vec<_> = stdout(&replayed).lines().map(str::to_owned).collect();
    assert_eq!(seen, accepted, "{}", stderr(&replayed));
}

#[test]
fn the_past_is_printed_and_then_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let log = ["--transport", "sqlite://bus.db"];
    for payload in ["1", "2"] {
        let published = run(dir.path(), &[&["pub", "kept", payload][..], &log].concat());
        assert!(published.status.success(), "{}", stderr(&published));
    }
    let past = ["sub", "kept", "--from", "beginning", "--until-idle", "5"];
    let past = run(dir.path(), &[&past[..], &log].concat());
    assert!(past.status.success(), "{}", stderr(&past));
    assert_eq!(stdout(&past), "kept 1\nkept 2\n");
    let never = ["sub", "kept", "--until-idle", "0"];
    let never = run(dir.path(), &[&never[..], &log].concat());
    assert_eq!(never.status.code(), Some(2), "{}", stderr(&never));
}

#[test]
fn a_url_that_names_nothing_is_answered_with_one_that_does() {
    let dir = tempfile::tempdir().unwrap();
    for (url, hint) in [
        ("sqlit://bus.db", "did you mean `sqlite://`?"),
        ("/tmp/bus.db", "write sqlite:///tmp/bus.db"),
        ("sqlite:bus.db", "write sqlite://bus.db"),
        ("sqlite://", "names no file"),
    ] {
        let refused = run(dir.path(), &["pub", "x", "--transport", url]);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(hint), "{}", stderr(&refused));
    }
}

#[test]
fn how_many_got_an_event_is_said_only_where_it_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let publish = ["pub", "kept", "1", "--key", "k", "--json"];
    // What is in the log already goes to nobody anew, so nobody is counted.
    for receivers in [Value::from(0), Value::Null] {
        let published = agentbus(dir.path())
            .args(publish)
            .args(["--transport", "sqlite://bus.db"])
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&published.stdout).unwrap();
        assert_eq!(said["receivers"], receivers, "{said}");
        assert_eq!(said["sequence"], 1, "{said}");
    }
}

#[test]
fn invoke_and_handle_work_over_a_log() {
    invoke_and_handle_work_over("sqlite://bus.db");
}

#[test]
fn invoke_and_handle_work_over_rabbitmq() {
    let Ok(broker) = std::env::var("AGENTBUS_RABBITMQ_URL") else {
        eprintln!("not run: AGENTBUS_RABBITMQ_URL names no broker; `cargo xtask test` starts one");
        return;
    };
    let namespace = format!("cli{}", std::process::id());
    invoke_and_handle_work_over(&format!("{broker}?namespace={namespace}"));
}

fn invoke_and_handle_work_over(transport: &str) {
    let dir = tempfile::tempdir().unwrap();
    let server = serve_over(dir.path(), transport);
    let mut agent = agentbus(dir.path())
        .args(["--url", &server.url, "handle", "count", "--", "wc", "-w"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_serving(&mut agent);
    let answer = run(
        dir.path(),
        &["--url", &server.url, "invoke", "count", "\"a b c\""],
    );
    agent.kill().unwrap();
    agent.wait().unwrap();
    drop(server);
    assert_eq!(stdout(&answer).trim(), "3", "{}", stderr(&answer));
}

/// Waits until `handle` says that it serves.
fn wait_until_serving(agent: &mut Child) {
    let mut ready = String::new();
    let mut said = BufReader::new(agent.stderr.take().unwrap());
    while !ready.contains("serving count") {
        ready.clear();
        assert_ne!(said.read_line(&mut ready).unwrap(), 0, "it ended early");
    }
}

#[test]
fn a_tenant_of_a_broker_is_served_and_called_apart() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(dir.path());
    let url = format!("nats://127.0.0.1:{}", nats.port);
    let acme = ["--tenant", "acme", "--subject-prefix", "corp.bus"];
    let mut agent = agentbus(dir.path())
        .args(["--transport", &url, "handle", "count"])
        .args(acme)
        .args(["--", "wc", "-w"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_serving(&mut agent);
    let invoke = ["--transport", &url, "invoke", "count", "\"a b c\""];
    let answer = run(dir.path(), &[&invoke[..], &acme[..]].concat());
    let elsewhere = [&acme[..2], &[]].map(|more| run(dir.path(), &[&invoke[..], more].concat()));
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(stdout(&answer).trim(), "3", "{}", stderr(&answer));
    for unserved in elsewhere {
        assert_eq!(unserved.status.code(), Some(6), "{}", stderr(&unserved));
    }
}

/// A client of a running bus learns from it which events have no prefix.
#[test]
fn a_topic_of_amb_peers_is_heard_through_a_running_bus() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(dir.path());
    let transport = format!("nats://127.0.0.1:{}?amb=till.*", nats.port);
    let server = serve_over(dir.path(), &transport);
    let ways = [["--url", &server.url], ["--transport", &transport]];
    for (hears, says) in [(ways[0], ways[1]), (ways[1], ways[0])] {
        let mut reader = agentbus(dir.path());
        let mut reader = reader
            .args(["sub", "till.open", "--count", "1"])
            .args(hears)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(reader.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("till.open")));
        let said = run(
            dir.path(),
            &[&["pub", "till.open", "7"][..], &says].concat(),
        );
        assert!(said.status.success(), "{}", stderr(&said));
        let heard = reader.wait_with_output().unwrap();
        assert_eq!(stdout(&heard).trim(), "till.open 7");
        // Whoever asks for all is told what is not among it.
        let all = [&["sub", ">", "--until-idle", "1"][..], &hears].concat();
        let note = stderr(&run(dir.path(), &all));
        assert!(note.contains("does not hear the topics"), "{note}");
        assert!(note.contains("`till.*`"), "{note}");
    }
}

/// Subscribes to events without a bus of its own, in frames as they are, and hangs up.
fn subscribe_raw(server: &Serving, pattern: &str) {
    let address = server.address();
    let url = format!("ws://{address}/v1/ws");
    let mut request = url.into_client_request().unwrap();
    let token = format!("Bearer {}", server.token()).parse().unwrap();
    request.headers_mut().insert("authorization", token);
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    let (mut socket, _) = tungstenite::client(request, stream).unwrap();
    let hello = json!({ "hello": { "agent": "raw" } });
    let subscribe = json!({ "subscribe": { "id": 1, "sub": 1, "pattern": pattern } });
    for (frame, answer) in [(hello, "welcome"), (subscribe, "ok")] {
        socket.send(Message::text(frame.to_string())).unwrap();
        let answered = socket.read().unwrap().to_string();
        let answered: Value = serde_json::from_str(&answered).unwrap();
        assert!(answered[answer].is_object(), "{answered}");
    }
}

/// A bridge, and a client of a running bus that has none of its own, hear as little as a program.
#[test]
fn what_a_pattern_leaves_out_is_said_wherever_it_is_subscribed_to() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(dir.path());
    let transport = format!("nats://127.0.0.1:{}?amb=till.*", nats.port);
    let told = "does not hear them";
    let bridge = ["bridge", &transport, "sqlite://to.db", "--live"];
    let bridge = [&bridge[..], &["--until-idle", "1", "--pattern"]].concat();
    for (pattern, leaves_out) in [(">", true), ("till.open", false)] {
        let copied = run(dir.path(), &[&bridge[..], &[pattern]].concat());
        assert!(copied.status.success(), "{}", stderr(&copied));
        assert_eq!(stderr(&copied).contains(told), leaves_out, "{pattern}");
    }
    let log = dir.path().join("log");
    let mut serve = agentbus(dir.path());
    serve
        .args(SERVE)
        .args(["--log", "warn", "--transport", &transport])
        .stderr(File::create(&log).unwrap());
    let mut server = Serving::start(&mut serve);
    subscribe_raw(&server, "till.open");
    subscribe_raw(&server, "*.open");
    // What is in the log is written when it has ended.
    server.process.end();
    let log = std::fs::read_to_string(log).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(told)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("*.open"), "{log}");
    assert!(lines[0].contains("till.*"), "{log}");
}

/// All numbers that a log holds, in order; it should hold so many.
async fn numbers(url: &str, count: u64) -> Vec<u64> {
    let bus = agentbus::Bus::builder("test").transport(url).connect();
    let bus = bus.await.unwrap();
    let events = bus.subscribe(">").start(agentbus::Start::Beginning);
    let mut events = events.await.unwrap();
    let mut numbers = Vec::new();
    loop {
        // What is missing is waited for; what there should not be has a moment to show itself.
        let patience = match (numbers.len() as u64) < count {
            true => GUARD,
            false => Duration::from_millis(500),
        };
        let Ok(Some(delivery)) = tokio::time::timeout(patience, events.next()).await else {
            break;
        };
        let payload = delivery.envelope().payload.as_ref();
        numbers.push(payload.unwrap().decode().unwrap());
    }
    bus.shutdown().await;
    numbers
}

#[tokio::test]
async fn a_bridge_that_is_killed_again_and_again_loses_nothing() {
    const EVENTS: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("sqlite://{}", dir.path().join(name).display());
    let (from, to) = (url("from.db"), url("to.db"));
    let source = agentbus::Bus::builder("test").transport(from.as_str());
    let source = source.connect().await.unwrap();
    for number in 0..EVENTS {
        source.publish("order.paid", &number).await.unwrap();
    }
    source.shutdown().await;
    for round in 0..6 {
        let mut bridge = agentbus(dir.path())
            .args(["bridge", &from, &to])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 * round));
        bridge.kill().unwrap();
        bridge.wait().unwrap();
    }
    let rest = run(dir.path(), &["bridge", &from, &to, "--until-idle", "1"]);
    assert!(rest.status.success(), "{}", stderr(&rest));
    assert_eq!(numbers(&to, EVENTS).await, (0..EVENTS).collect::<Vec<_>>());
}
