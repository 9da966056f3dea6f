//! The MCP proxy, with a bus and workers behind it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serving::Running;
use crate::tap::{PROGRAM, Tap};

/// Longest that anything may take. Nothing waits this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bus with one worker behind a tap.
struct Bus {
    process: Running,
    tap: Tap,
}

impl Bus {
    /// A bus with the ACP worker, at a socket in this directory.
    fn start(directory: &Path) -> Self {
        let bus = Self::around(directory, Tap::worker(), &["--unix", "s"]);
        let socket = directory.join("s");
        listening(|| UnixStream::connect(&socket).is_ok());
        bus
    }

    fn around(directory: &Path, tap: Tap, listen: &[&str]) -> Self {
        let pool = json!({ "id": "acp", "command": tap.command(), "args": [], "instances": 1 });
        let pools = json!({ "pools": [pool] });
        std::fs::write(directory.join("bus.json"), pools.to_string()).unwrap();
        let mut bus = Command::new(PROGRAM);
        bus.args(["stdio", "--log", "error", "--config", "bus.json"]);
        let bus = bus.args(listen).current_dir(directory);
        let process = Running(bus.stdin(Stdio::null()).spawn().unwrap());
        Self { process, tap }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // A test that has failed says why, and nothing else.
        if !std::thread::panicking() {
            self.process.end();
            self.tap.check();
        }
    }
}

/// Waits until the bus can be reached.
fn listening(reached: impl Fn() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < PATIENCE, "the bus does not listen");
        std::thread::yield_now();
    }
}

struct Proxy {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    next: u64,
}

impl Proxy {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "mcp-proxy", "--unix", "s"]);
        Self::of(command.current_dir(directory))
    }

    fn of(command: &mut Command) -> Self {
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
                let _ = to_test.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self {
            child,
            stdin,
            lines,
            next: 0,
        }
    }

    fn write(&self, message: &Value) {
        writeln!(self.stdin.as_ref().unwrap(), "{message}").unwrap();
    }

    fn ask(&mut self, method: &str, params: &Value) -> u64 {
        self.next += 1;
        self.write(
            &json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }),
        );
        self.next
    }

    fn read(&self) -> Value {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        let id = self.ask(method, params);
        let answer = self.read();
        assert_eq!(answer["id"], id);
        answer
    }

    fn prompt(&mut self, prompt: &str) -> Value {
        let params = json!({ "name": "acp_prompt", "arguments": { "prompt": prompt } });
        self.call("tools/call", &params)["result"].clone()
    }

    fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn a_tool_call_is_a_prompt_and_its_text_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    let _bus = Bus::start(directory.path());
    let mut proxy = Proxy::start(directory.path());
    let said = proxy.call("initialize", &json!({ "protocolVersion": "2024-11-05" }));
    assert_eq!(said["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(said["result"]["serverInfo"]["name"], "agentbus-worker");
    assert_eq!(
        said["result"]["capabilities"],
        json!({ "tools": {}, "resources": {} })
    );
    proxy.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    let tools = proxy.call("tools/list", &json!({}))["result"]["tools"].clone();
    assert_eq!(tools[0]["name"], "acp_prompt");
    for (method, list) in [
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
        ("prompts/list", "prompts"),
    ] {
        assert_eq!(proxy.call(method, &json!({}))["result"][list], json!([]));
    }
    assert_eq!(
        proxy.prompt("hello")["content"],
        json!([{ "type": "text", "text": "hello" }])
    );
    // A turn without a word: the agent has no tools to list.
    assert_eq!(proxy.prompt("/tools")["content"][0]["text"], "No response");
    // What the agent refuses is an error of the tool, and the session goes on.
    let failed = proxy.prompt("/wait soon");
    assert_eq!(failed["isError"], true);
    assert!(
        failed["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("a number of seconds"),
        "{failed}"
    );
    assert_eq!(proxy.prompt("on")["content"][0]["text"], "on");
    proxy.end();
}

#[test]
fn calls_at_the_same_time_get_their_own_text() {
    let directory = tempfile::tempdir().unwrap();
    let _bus = Bus::start(directory.path());
    let mut proxy = Proxy::start(directory.path());
    let prompts = ["/wait 0.3", "two", "three", "four"];
    for prompt in prompts {
        proxy.ask(
            "tools/call",
            &json!({ "name": "acp_prompt", "arguments": { "prompt": prompt } }),
        );
    }
    for _ in prompts {
        let answer = proxy.read();
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        let expected = ["waited 0.3 s", "two", "three", "four"];
        let number = usize::try_from(answer["id"].as_u64().unwrap()).unwrap();
        assert_eq!(text, expected[number - 1]);
    }
    proxy.end();
}

#[test]
fn a_cancelled_call_ends_and_the_next_one_works() {
    let directory = tempfile::tempdir().unwrap();
    let _bus = Bus::start(directory.path());
    let mut proxy = Proxy::start(directory.path());
    let id = proxy.ask(
        "tools/call",
        &json!({ "name": "acp_prompt", "arguments": { "prompt": "/wait 60" } }),
    );
    // The connection is there once this, which waits for nothing, is answered.
    proxy.call("ping", &json!({}));
    proxy.write(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } }));
    let answer = proxy.read();
    assert_eq!(answer["result"]["_meta"]["stopReason"], "cancelled");
    assert_eq!(proxy.prompt("next")["content"][0]["text"], "next");
    proxy.end();
}

#[test]
fn a_bus_that_goes_and_comes_back_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut proxy = Proxy::start(directory.path());
    let failed = proxy.prompt("too early");
    assert_eq!(failed["isError"], true);
    assert!(
        failed["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("cannot be reached"),
        "{failed}"
    );
    for round in 0..2 {
        let _bus = Bus::start(directory.path());
        let said = proxy.prompt("here");
        assert_eq!(said["content"][0]["text"], "here", "round {round}: {said}");
    }
    proxy.end();
}

#[test]
fn what_is_wrong_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let mut proxy = Proxy::start(directory.path());
    for (method, params, code) in [
        ("nope", json!({}), -32601),
        ("tools/call", json!({ "name": "nope" }), -32602),
        ("tools/call", json!({ "name": "acp_prompt" }), -32602),
    ] {
        assert_eq!(
            proxy.call(method, &params)["error"]["code"],
            code,
            "{method}"
        );
    }
    writeln!(proxy.stdin.as_ref().unwrap(), "no json").unwrap();
    assert_eq!(proxy.read()["error"]["code"], -32700);
    proxy.end();
}

#[test]
fn variables_lead_to_an_agent_of_a_registry_and_its_moods_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let moody = crate::script("moody.py").display().to_string();
    let moods = ["fine", "quiet", "garbage", "shut", "gives-up", "dies"];
    let agents: Vec<Value> = moods
        .map(|mood| crate::registry::binary(mood, "python3", &[&moody, mood]))
        .into();
    let index = directory.path().join("index.json");
    let text = json!({ "version": "1", "agents": agents }).to_string();
    std::fs::write(&index, text).unwrap();
    let registry = [
        PROGRAM,
        "worker",
        "registry",
        "--data-dir",
        "kept",
        "--registry",
    ];
    let tap = Tap::new().around(&[&registry[..], &[index.to_str().unwrap()]].concat());
    let port = crate::ports::free_port().to_string();
    let _bus = Bus::around(
        directory.path(),
        tap,
        &["--tcp", &format!("127.0.0.1:{port}")],
    );
    listening(|| TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
    for (mood, texts, failed) in [
        ("fine", &["half an answer"][..], false),
        ("quiet", &["No response"], false),
        ("garbage", &["half an answer"], false),
        (
            "shut",
            &["refused session/new: log in at the desk first"],
            true,
        ),
        (
            "gives-up",
            &["half an answer", "refused session/prompt: out of words"],
            true,
        ),
        ("dies", &["half an answer", "exit code 7"], true),
        (
            "nobody",
            &["no agent of the registry is called nobody"],
            true,
        ),
    ] {
        let mut command = Command::new(PROGRAM);
        command
            .args(["worker", "mcp-proxy"])
            .env("ACP_HOST", "127.0.0.1")
            .env("ACP_PORT", &port)
            .env("AGENT_ID", mood);
        let mut proxy = Proxy::of(&mut command);
        let said = proxy.call("initialize", &json!({ "protocolVersion": "2025-06-18" }));
        let expected = match mood {
            // Whoever has no session yet has no name either.
            "shut" | "nobody" => "agentbus-mcp-proxy",
            mood => mood,
        };
        assert_eq!(said["result"]["serverInfo"]["name"], expected);
        // Twice: what went wrong in a call is not in the way of the next one.
        for _ in 0..2 {
            let said = proxy.prompt("hello");
            let content = said["content"].as_array().unwrap();
            assert_eq!(content.len(), texts.len(), "{mood}: {said}");
            for (block, text) in content.iter().zip(texts) {
                assert!(
                    block["text"].as_str().unwrap().contains(text),
                    "{mood}: {said}"
                );
            }
            assert_eq!(said["isError"] == true, failed, "{mood}: {said}");
        }
        proxy.end();
    }
}
