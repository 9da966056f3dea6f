//! A session with an MCP server over Streamable HTTP: the bus's own, which goes away in the middle.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::Launcher;
use crate::serving::{SERVE, Serving};
use crate::tap::PROGRAM;

/// A bus with its MCP endpoint.
struct Bus {
    serving: Serving,
    token: String,
    _directory: TempDir,
}

impl Bus {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut serve = Command::new(PROGRAM);
        serve
            .args(SERVE)
            .env("AGENTBUS_DATA_DIR", directory.path().join("data"));
        let serving = Serving::start(&mut serve);
        Self {
            token: serving.token(),
            serving,
            _directory: directory,
        }
    }

    /// What a client of ACP names it as.
    fn server(&self, token: &str) -> Value {
        let headers = json!([{ "name": "Authorization", "value": format!("Bearer {token}") }]);
        json!({ "type": "http", "name": "bus", "url": format!("{}/mcp", self.serving.url), "headers": headers })
    }
}

/// The worker, and what its client saw.
struct Worker {
    program: Launcher,
    frames: Vec<Value>,
    next: u64,
    _directory: TempDir,
}

impl Worker {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(PROGRAM);
        command
            .args(["worker", "acp", "--data-dir"])
            .arg(directory.path());
        let mut worker = Self {
            program: Launcher::of(command),
            frames: Vec::new(),
            next: 0,
            _directory: directory,
        };
        let said = worker.ask("initialize", &json!({ "protocolVersion": 1 }));
        assert_eq!(
            said["result"]["agentCapabilities"]["mcpCapabilities"]["http"],
            true
        );
        worker
    }

    /// Asks, and says yes to every question until the answer comes.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.ask_and(method, params, || ())
    }

    /// Does something before it says yes.
    fn ask_and(&mut self, method: &str, params: &Value, mut before: impl FnMut()) -> Value {
        self.next += 1;
        self.frames.clear();
        self.program.send(
            &json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }),
        );
        loop {
            let frame = self.program.read();
            if frame["method"] == "session/request_permission" {
                before();
                let chosen =
                    json!({ "outcome": { "outcome": "selected", "optionId": "allow_once" } });
                self.program
                    .send(&json!({ "jsonrpc": "2.0", "id": frame["id"], "result": chosen }));
            } else if frame["id"] == self.next {
                return frame;
            }
            self.frames.push(frame);
        }
    }

    fn open(&mut self, server: &Value) -> Value {
        self.ask(
            "session/new",
            &json!({ "cwd": "/", "mcpServers": [server] }),
        )
    }

    /// Runs a turn; returns the text of its answer.
    fn say(&mut self, session: &Value, text: &str) -> String {
        let prompt = json!([{ "type": "text", "text": text }]);
        let said = self.ask(
            "session/prompt",
            &json!({ "sessionId": session, "prompt": prompt }),
        );
        assert_eq!(said["result"]["stopReason"], "end_turn", "{said}");
        let chunks = self.updates("agent_message_chunk");
        chunks
            .iter()
            .filter_map(|update| update["content"]["text"].as_str())
            .collect()
    }

    /// What the last call failed with.
    fn failure(&self) -> String {
        let last = self.updates("tool_call_update").pop().unwrap();
        assert_eq!(last["status"], "failed");
        last["content"][0]["content"]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn updates(&self, kind: &str) -> Vec<Value> {
        let updates = self.frames.iter().map(|frame| &frame["params"]["update"]);
        updates
            .filter(|update| update["sessionUpdate"] == kind)
            .cloned()
            .collect()
    }
}

const THREADS: &str = "/tool thread_list {}";

#[test]
fn tools_of_a_server_over_http_are_listed_asked_for_and_run() {
    let bus = Bus::start();
    let mut worker = Worker::start();
    let opened = worker.open(&bus.server(&bus.token));
    assert_eq!(
        opened["result"]["_meta"]["agentbus.mcpServers"],
        json!([{ "name": "bus", "connected": true }])
    );
    let session = opened["result"]["sessionId"].clone();
    let tools = worker.say(&session, "/tools");
    for tool in ["thread_list", "msg_post", "bus_connect"] {
        assert!(tools.contains(tool), "no {tool} in {tools}");
    }
    let said = worker.say(&session, THREADS);
    assert!(said.contains("threads"), "{said}");
    let asked = worker
        .frames
        .iter()
        .filter(|frame| frame["method"] == "session/request_permission");
    assert_eq!(asked.count(), 1);
    let statuses: Vec<_> = worker
        .updates("tool_call_update")
        .iter()
        .map(|update| update["status"].clone())
        .collect();
    assert_eq!(statuses, ["in_progress", "completed"]);
    worker.program.end();
}

#[test]
fn a_server_over_http_that_goes_away_is_named_and_its_session_goes_on() {
    let bus = Bus::start();
    let mut worker = Worker::start();
    let opened = worker.open(&bus.server(&bus.token));
    let session = opened["result"]["sessionId"].clone();
    let said = worker.say(&session, THREADS);
    assert!(said.contains("threads"), "{said}");
    // It goes while its client is asked, and is still gone in the next turn.
    let prompt = json!([{ "type": "text", "text": THREADS }]);
    let mut bus = Some(bus);
    let params = json!({ "sessionId": session, "prompt": prompt });
    worker.ask_and("session/prompt", &params, || drop(bus.take()));
    let gone = "the MCP server bus cannot be reached any more";
    assert!(
        worker.failure().starts_with(&format!("Error: {gone}")),
        "{}",
        worker.failure()
    );
    worker.say(&session, THREADS);
    let why = worker.failure();
    assert!(
        why.starts_with("Error: there is no tool `thread_list`") && why.contains(gone),
        "{why}"
    );
    assert!(why.contains("refused") && !why.contains("::"), "{why}");
    assert_eq!(worker.say(&session, "still here"), "still here");
    worker.program.end();
}

#[test]
fn a_server_over_http_that_refuses_or_is_not_there_is_reported() {
    let bus = Bus::start();
    let mut worker = Worker::start();
    let opened = worker.open(&bus.server("wrong"));
    let report = &opened["result"]["_meta"]["agentbus.mcpServers"][0];
    assert_eq!(report["connected"], false);
    assert!(
        report["error"].as_str().unwrap().contains("401"),
        "{report}"
    );
    let gone = bus.server(&bus.token);
    drop(bus);
    let opened = worker.open(&gone);
    let report = &opened["result"]["_meta"]["agentbus.mcpServers"][0];
    assert_eq!(report["connected"], false);
    assert!(
        report["error"].as_str().unwrap().contains("refused"),
        "{report}"
    );
    // A session begins all the same.
    let session = opened["result"]["sessionId"].clone();
    assert_eq!(worker.say(&session, "hello"), "hello");
    worker.program.end();
}
