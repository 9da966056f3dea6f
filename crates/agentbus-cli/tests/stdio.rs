//! `agentbus stdio` with the real program and real workers. The names of the tests carry the
//! numbers of the conformance vectors that they cover.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_agentbus");
const GUARD: Duration = Duration::from_secs(60);

/// Turns a request into its own answer, line by line, without knowing more about it.
const ECHO: &str = r#"exec sed -u 's/"method":"m"/"result":{}/'"#;

/// A running bus.
struct Bus {
    child: Child,
    dir: TempDir,
}

/// One side of a connection that speaks lines.
struct Peer<W> {
    output: Option<W>,
    lines: Receiver<String>,
}

impl Bus {
    /// Starts a bus with these pools, each a name and a script, and limits.
    fn start(pools: &[(&str, &str, usize)], limits: &Value, listen: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pools: Vec<_> = pools
            .iter()
            .map(|(id, script, instances)| {
                json!({"id": id, "command": "sh", "args": ["-c", script], "instances": instances})
            })
            .collect();
        let config = json!({"pools": pools, "limits": limits});
        Self::with_config(dir, &config.to_string(), listen)
    }

    fn with_config(dir: TempDir, config: &str, listen: &[&str]) -> Self {
        std::fs::write(dir.path().join("bus.json"), config).unwrap();
        let child = Command::new(PROGRAM)
            .args(["stdio", "--config", "bus.json"])
            .args(listen)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn stdio(&mut self) -> Peer<ChildStdin> {
        let stdout = self.child.stdout.take().unwrap();
        Peer::new(self.child.stdin.take().unwrap(), stdout)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("bus.sock")
    }

    fn connect(&self) -> Peer<UnixStream> {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(self.socket()) {
                Ok(stream) => return Peer::new(stream.try_clone().unwrap(), stream),
                Err(error) => assert!(begun.elapsed() < GUARD, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end and returns the exit code and what was logged.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        let status = self.child.wait().unwrap();
        (status.code(), log)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<W: Write> Peer<W> {
    fn new(output: W, input: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(input).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            output: Some(output),
            lines,
        }
    }

    fn say(&mut self, line: &str) {
        let output = self.output.as_mut().unwrap();
        // At once: the other side may hang up over the first part of a line.
        output.write_all(format!("{line}\n").as_bytes()).unwrap();
        output.flush().unwrap();
    }

    fn hear(&self) -> String {
        self.lines.recv_timeout(GUARD).unwrap()
    }

    fn hear_json(&self) -> Value {
        serde_json::from_str(&self.hear()).unwrap()
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    /// Whether the other side has hung up.
    fn has_ended(&self) -> bool {
        matches!(
            self.lines.recv_timeout(GUARD),
            Err(RecvTimeoutError::Disconnected)
        )
    }
}

fn request(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#)
}

fn result(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

#[test]
fn v1_v2_v5_v6_v11_v12_v40_lines_go_through_unchanged_and_the_end_is_clean() {
    let mut bus = Bus::start(&[("p", ECHO, 1)], &json!({}), &[]);
    let mut client = bus.stdio();
    for id in [
        "1",
        r#""a""#,
        "1.5",
        "-3",
        "123456789012345678901234567890",
        r#""x\"y""#,
    ] {
        assert_eq!(client.ask(&request(id)), result(id));
    }
    client.say("");
    assert_eq!(
        client.ask(&format!("{}\r", request("7"))),
        format!("{}\r", result("7")).trim_end()
    );
    client.say(&format!("{}\n{}", request("8"), request("9")));
    assert_eq!((client.hear(), client.hear()), (result("8"), result("9")));
    for id in 100..150 {
        client.say(&request(&id.to_string()));
    }
    // The last of it is outstanding when the input ends.
    client.output = None;
    for id in 100..150 {
        assert_eq!(client.hear(), result(&id.to_string()));
    }
    assert!(client.has_ended());
    assert_eq!(bus.end().0, Some(0));
}

#[test]
fn v8_v9_v10_what_cannot_be_read_ends_one_connection_and_no_other() {
    let limits = json!({"max_input_buffer": 1024});
    let bus = Bus::start(&[("p", ECHO, 1)], &limits, &["--unix", "bus.sock"]);
    let mut other = bus.connect();
    for line in ["not json", "[1,2]", "null", "{\"id\":1", "   "] {
        let mut client = bus.connect();
        let error: Value = serde_json::from_str(&client.ask(line)).unwrap();
        assert_eq!(
            (&error["error"]["code"], &error["id"]),
            (&json!(-32700), &Value::Null)
        );
        assert!(client.has_ended());
    }
    let padded = |length: usize| {
        let line = request("1");
        line.replace('}', &format!("{}}}", " ".repeat(length - line.len())))
    };
    assert_eq!(
        bus.connect().ask(&padded(1023)).len(),
        1023 - "\"method\":\"m\"".len() + "\"result\":{}".len()
    );
    let mut client = bus.connect();
    let error: Value = serde_json::from_str(&client.ask(&padded(1024))).unwrap();
    assert_eq!(error["error"]["message"], "Message too large");
    assert!(client.has_ended());
    assert_eq!(other.ask(&request("2")), result("2"));
}

#[test]
fn v26_clients_with_equal_ids_get_their_own_answers() {
    // The first worker is slow, so answers come back in another order.
    let script = r#"if mkdir first 2>/dev/null; then
        while read -r line; do sleep 0.3; echo "$line" | sed 's/"method":"m"/"result":{}/'; done
        else exec sed -u 's/"method":"m"/"result":{}/'; fi"#;
    let bus = Bus::start(&[("p", script, 2)], &json!({}), &["--unix", "bus.sock"]);
    let (mut a, mut b) = (bus.connect(), bus.connect());
    let line = |who: &str| format!(r#"{{"id":1,"method":"m","params":"{who}"}}"#);
    for _ in 0..3 {
        a.say(&line("a"));
        b.say(&line("b"));
        assert_eq!(a.hear_json()["params"], "a");
        assert_eq!(b.hear_json()["params"], "b");
    }
}

#[test]
fn v30_v31_v37_a_worker_that_ends_or_raves_answers_with_errors_and_comes_back() {
    let script = r#"while read -r line; do
        case "$line" in *die*) exit 7;; *leave*) exit 0;; *rave*) echo garbage;;
        *) echo "$line" | sed 's/"method":"m"/"result":{}/';; esac; done"#;
    let limits = json!({"restart_delay_ms": 10, "max_restarts": 50});
    let mut bus = Bus::start(&[("p", script, 1)], &limits, &[]);
    let mut client = bus.stdio();
    let died = "WORKER_DIED";
    let words = [
        ("die", died),
        ("leave", died),
        ("rave", "BAD_WORKER_OUTPUT"),
        ("die", died),
    ];
    for (n, (word, code)) in words.iter().enumerate() {
        let line = format!(r#"{{"id":{n},"method":"m","params":"{word}"}}"#);
        let error: Value = serde_json::from_str(&client.ask(&line)).unwrap();
        assert_eq!(error["id"], n);
        assert_eq!(error["error"]["data"]["code"], *code, "{word}: {error}");
        let begun = Instant::now();
        while client.ask(&request("99")) != result("99") {
            assert!(
                begun.elapsed() < GUARD,
                "the worker did not come back after {word}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn v34_v35_large_messages_arrive_whole_also_at_a_late_reader() {
    let dir = tempfile::tempdir().unwrap();
    let pool = json!({"id": "p", "command": PROGRAM, "args": ["worker", "echo"], "instances": 1});
    let config = json!({"pools": [pool], "limits": {"max_input_buffer": 80_000_000}});
    let mut bus = Bus::with_config(dir, &config.to_string(), &[]);
    let stdout = bus.child.stdout.take().unwrap();
    let mut stdin = bus.child.stdin.take().unwrap();
    let sizes = [66_000, 300_000, 1 << 20, 8 << 20, 64 << 20];
    let writer = std::thread::spawn(move || {
        for size in sizes {
            let text = "x".repeat(size);
            writeln!(stdin, r#"{{"id":{size},"method":"m","params":"{text}"}}"#).unwrap();
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    let mut lines = BufReader::new(stdout).lines();
    for size in sizes {
        let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer["id"], size);
        assert_eq!(answer["result"]["echo"].as_str().unwrap().len(), size);
    }
    writer.join().unwrap();
    assert_eq!(bus.end().0, Some(0));
}

#[test]
fn v36_one_client_that_does_not_read_stalls_nobody_and_is_cut_off_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let pool = json!({"id": "p", "command": PROGRAM, "args": ["worker", "echo"], "instances": 1});
    let limits = json!({"max_output_queue": 200_000, "backpressure_timeout_sec": 2});
    let config = json!({"pools": [pool], "limits": limits});
    let bus = Bus::with_config(dir, &config.to_string(), &["--unix", "bus.sock"]);
    let mut other = bus.connect();
    assert!(other.ask(&request("0")).contains("echo"));
    let mut greedy = UnixStream::connect(bus.socket()).unwrap();
    greedy
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let line = format!(
        "{{\"id\":1,\"method\":\"m\",\"params\":\"{}\"}}\n",
        "x".repeat(20_000)
    );
    // Its requests are not read any more at some point, so writing them stops to succeed.
    let mut written = 0;
    while greedy.write_all(line.as_bytes()).is_ok() {
        written += 1;
        assert!(written < 10_000, "reads are never paused");
    }
    for id in 0..50 {
        let answer: Value = serde_json::from_str(&other.ask(&request(&id.to_string()))).unwrap();
        assert_eq!(answer["id"], id);
    }
    let begun = Instant::now();
    let mut rest = Vec::new();
    std::thread::sleep(Duration::from_secs(4));
    greedy.set_read_timeout(Some(GUARD)).unwrap();
    // Cut off: after what the kernel still holds comes the end.
    let _ = greedy.read_to_end(&mut rest);
    assert!(begun.elapsed() < GUARD);
    assert!(other.ask(&request("9")).contains("echo"));
}

#[test]
fn a_log_that_nobody_reads_stalls_nobody() {
    let script = "head -c 2000000 /dev/zero | tr '\\0' 'x' | fold -w 100 >&2; exec sed -u 's/\"method\":\"m\"/\"result\":{}/'";
    let mut bus = Bus::start(&[("p", script, 1)], &json!({}), &["--unix", "bus.sock"]);
    let mut peer = bus.connect();
    for id in 0..50 {
        assert_eq!(peer.ask(&request(&id.to_string())), result(&id.to_string()));
    }
    bus.signal("TERM");
    let begun = Instant::now();
    // Its standard error is still not read.
    while bus.child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < GUARD, "the bus does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (code, log) = bus.end();
    assert_eq!(code, Some(0));
    assert!(log.len() < 200_000, "the pipe held more: {}", log.len());
}

#[test]
fn v38_a_terminated_bus_finishes_what_was_asked() {
    let script = r#"trap '' TERM; while read -r line; do : > begun; sleep 0.5; echo "$line" | sed 's/"method":"m"/"result":{}/'; done"#;
    let limits = json!({"drain_timeout_sec": 20});
    let mut bus = Bus::start(&[("p", script, 1)], &limits, &[]);
    let mut client = bus.stdio();
    client.say(&request("1"));
    let begun = bus.dir.path().join("begun");
    while !begun.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    bus.signal("TERM");
    assert_eq!(client.hear(), result("1"));
    let begun = Instant::now();
    assert_eq!(bus.end().0, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "it waited for nothing"
    );
}

#[test]
fn v39_a_worker_that_ignores_everything_is_killed_at_the_end_of_the_drain() {
    let script = "trap '' TERM; while :; do sleep 1000; done";
    let bus = Bus::start(
        &[("p", script, 1)],
        &json!({"drain_timeout_sec": 1}),
        &["--unix", "bus.sock"],
    );
    drop(bus.connect());
    bus.signal("TERM");
    let begun = Instant::now();
    assert_eq!(bus.end().0, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn v41_the_configuration_comes_from_a_descriptor_also_under_the_old_name() {
    let dir = tempfile::tempdir().unwrap();
    let old_name = dir.path().join("stdio_bus");
    std::os::unix::fs::symlink(PROGRAM, &old_name).unwrap();
    let pool = json!({"id": "p", "command": "sh", "args": ["-c", ECHO], "instances": 1});
    let config = json!({"pools": [pool]}).to_string();
    std::fs::write(dir.path().join("bus.json"), config).unwrap();
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
    let mut client = Peer::new(child.stdin.take().unwrap(), child.stdout.take().unwrap());
    assert_eq!(client.ask(&request("1")), result("1"));
    drop(client);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_old_name_has_its_own_help_and_a_version() {
    let dir = tempfile::tempdir().unwrap();
    let old_name = dir.path().join("stdio_bus");
    std::os::unix::fs::symlink(PROGRAM, &old_name).unwrap();
    let says = |flag: &str| {
        let output = Command::new(&old_name).arg(flag).output().unwrap();
        assert!(output.status.success(), "{flag}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(says("--help").contains("Usage: stdio_bus [OPTIONS]"));
    assert!(says("--version").contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn v43_a_live_socket_is_left_alone_and_a_stale_one_replaced() {
    let bus = Bus::start(&[("p", ECHO, 1)], &json!({}), &["--unix", "bus.sock"]);
    assert_eq!(bus.connect().ask(&request("1")), result("1"));
    let second = |path: &Path| {
        Command::new(PROGRAM)
            .args(["stdio", "--config", "bus.json", "--unix"])
            .arg(path)
            .current_dir(bus.dir.path())
            .output()
            .unwrap()
    };
    let refused = second(&bus.socket());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("another process listens"),
        "{said}"
    );
    let file = bus.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(!second(&file).status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(bus.connect().ask(&request("2")), result("2"));
    bus.signal("KILL");
    let mut bus = bus;
    bus.child.wait().unwrap();
    assert!(bus.socket().exists(), "a killed bus leaves its socket");
    bus.child = Command::new(PROGRAM)
        .args(["stdio", "--config", "bus.json", "--unix", "bus.sock"])
        .current_dir(bus.dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(bus.connect().ask(&request("3")), result("3"));
}

#[test]
fn tcp_takes_names_and_length_framing_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = json!({
        "pools": [{"id": "p", "command": "sh", "args": ["-c", ECHO], "instances": 1}],
        "transport": {"framing": "length"},
    });
    let _bus = Bus::with_config(
        dir,
        &config.to_string(),
        &["--tcp", &format!("localhost:{port}")],
    );
    let begun = Instant::now();
    let mut stream = loop {
        match std::net::TcpStream::connect(("localhost", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(begun.elapsed() < GUARD, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let line = request("1");
    stream
        .write_all(&u32::try_from(line.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), result("1"));
}

#[test]
fn mistakes_have_a_sentence_and_an_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let check = |config: &str, args: &[&str], code: i32, hint: &str| {
        std::fs::write(dir.path().join("bus.json"), config).unwrap();
        let output = Command::new(PROGRAM)
            .arg("stdio")
            .args(args)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(hint), "{args:?}: {said}");
    };
    let good = r#"{"pools":[{"id":"p","command":"cat","instances":1}],"limits":{"max_restart":1}}"#;
    check(good, &[], 2, "--config");
    check("{}", &["--config", "bus.json"], 3, "at least one pool");
    check(good, &["--config", "none.json"], 3, "cannot read none.json");
    check(
        good,
        &["--config", "bus.json", "--config-fd", "0"],
        2,
        "not both",
    );
    check(
        good,
        &["--config", "bus.json", "--tcp", "nonsense"],
        2,
        "HOST:PORT",
    );
    check(good, &["--config", "bus.json"], 0, "limits.max_restart");
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |child: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        fields.split_whitespace().nth(1) == Some(&pid.to_string())
    };
    pids.filter(is_child).collect()
}

#[test]
fn every_request_is_answered_once_while_workers_are_killed() {
    const ROUNDS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let pool = json!({"id": "p", "command": PROGRAM, "args": ["worker", "echo"], "instances": 3});
    let limits = json!({"restart_delay_ms": 5, "max_restarts": 100_000});
    let config = json!({"pools": [pool], "limits": limits});
    let bus = Bus::with_config(dir, &config.to_string(), &["--unix", "bus.sock"]);
    let storm = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let mut client = bus.connect();
                scope.spawn(move || {
                    let (mut results, mut errors) = (0, 0);
                    for round in 0..ROUNDS {
                        // All clients use the same few ids, ten at a time.
                        for id in 0..10 {
                            let tag = format!("{number}-{round}-{id}");
                            client.say(&format!(
                                r#"{{"id":{id},"method":"m","params":"{tag}","sessionId":"s{id}"}}"#
                            ));
                        }
                        let mut open: Vec<_> = (0..10).collect();
                        while !open.is_empty() {
                            let answer = client.hear_json();
                            let id = answer["id"].as_u64().unwrap();
                            let place = open.iter().position(|open| *open == id).unwrap();
                            open.swap_remove(place);
                            match answer.get("result") {
                                Some(result) => {
                                    let tag = format!("{number}-{round}-{id}");
                                    assert_eq!(result["echo"], json!(tag));
                                    results += 1;
                                }
                                None => {
                                    assert_eq!(answer["error"]["data"]["retryable"], true);
                                    errors += 1;
                                }
                            }
                        }
                    }
                    (results, errors)
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            let workers = children(bus.child.id());
            let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = clock.unwrap().subsec_nanos() as usize;
            if let Some(worker) = workers.get((now / 7) % workers.len().max(1)) {
                // It may have ended by itself in the meantime.
                let _ = Command::new("kill")
                    .args(["-KILL", &worker.to_string()])
                    .stderr(Stdio::null())
                    .status();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect::<Vec<_>>()
    });
    let results: usize = storm.iter().map(|(results, _)| results).sum();
    let errors: usize = storm.iter().map(|(_, errors)| errors).sum();
    assert_eq!(results + errors, 4 * ROUNDS * 10);
    assert!(results > 0, "no request was ever served");
}

#[test]
fn nothing_is_left_when_the_bus_is_killed_under_load() {
    // Each worker has a child of its own.
    let script = format!("sleep 1000 & {ECHO}");
    let bus = Bus::start(&[("p", &script, 4)], &json!({}), &["--unix", "bus.sock"]);
    let mut clients: Vec<_> = (0..20).map(|_| bus.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        for id in 0..50 {
            client.say(&format!(r#"{{"id":{id},"method":"m","sessionId":"s{n}"}}"#));
        }
        client.hear();
    }
    let workers = children(bus.child.id());
    assert_eq!(workers.len(), 4, "{workers:?}");
    let family: Vec<_> = workers
        .iter()
        .flat_map(|worker| children(*worker))
        .chain(workers.clone())
        .collect();
    bus.signal("KILL");
    let begun = Instant::now();
    let lives = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while family.iter().any(lives) {
        assert!(begun.elapsed() < GUARD, "{family:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
