//! An editor: a client of `agentbus acp` that holds every frame against the schema.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bus::Bus;
use crate::support::frames::{Frames, From};

/// Longest that anything may take. Nothing waits this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Editor {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    pub(crate) frames: Frames,
    next: u64,
    /// What was read and not asked for yet.
    waiting: VecDeque<Value>,
    /// The updates of sessions, exactly as they were written.
    pub(crate) updates: Vec<String>,
}

impl Editor {
    pub(crate) fn start(bus: &Bus, words: &[&str]) -> Self {
        let mut command = bus.command(&[&["acp"], words].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            input: child.stdin.take(),
            child,
            lines,
            frames: Frames::new(),
            next: 0,
            waiting: VecDeque::new(),
            updates: Vec::new(),
        }
    }

    /// An editor that has introduced itself, with these capabilities.
    pub(crate) fn ready(bus: &Bus, words: &[&str], serves: &Value) -> Self {
        let mut editor = Self::start(bus, words);
        let params = json!({ "protocolVersion": 1, "clientCapabilities": serves });
        editor.call("initialize", params);
        editor
    }

    /// Writes a line without a look at it.
    pub(crate) fn write(&mut self, line: &str) {
        self.write_bytes(line.as_bytes());
    }

    /// The same for what need not be text.
    pub(crate) fn write_bytes(&mut self, line: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(&[line, b"\n"].concat()).unwrap();
    }

    /// The next line, without a look at it.
    pub(crate) fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the bus is silent"),
        }
    }

    pub(crate) fn send(&mut self, frame: &Value) {
        let line = frame.to_string();
        self.frames.check(From::Client, &line);
        self.write(&line);
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests write parameters where they send them"
    )]
    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Sends a request; the answer is for [`Self::answer`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests write parameters where they send them"
    )]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let request =
            json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        self.send(&request);
        self.next
    }

    /// The next frame; `None` at the end.
    fn read(&mut self) -> Option<Value> {
        let line = self.line()?;
        let frame = self.frames.check(From::Agent, &line);
        if frame["method"] == "session/update" {
            let begin = line.find("\"update\":").unwrap();
            self.updates.push(line[begin..].to_owned());
        }
        Some(frame)
    }

    /// The next frame that is wanted; the others wait.
    pub(crate) fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.waiting.iter().position(&wanted) {
            return self.waiting.remove(at).unwrap();
        }
        loop {
            let frame = self.read().expect("the bus hung up");
            if wanted(&frame) {
                return frame;
            }
            self.waiting.push_back(frame);
        }
    }

    /// Whether something of this kind was read and not asked for.
    pub(crate) fn has(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        self.waiting.iter().any(wanted)
    }

    pub(crate) fn answer(&mut self, id: u64) -> Value {
        self.find(|frame| frame["id"] == id && frame.get("method").is_none())
    }

    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        self.answer(id)
    }

    /// The next request of this method.
    pub(crate) fn asked(&mut self, method: &str) -> Value {
        self.find(|frame| frame["method"] == method && frame.get("id").is_some())
    }

    pub(crate) fn reply(&mut self, request: &Value, result: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }));
    }

    /// Chooses an option of a permission request.
    pub(crate) fn choose(&mut self, request: &Value, option: &str) {
        let outcome = json!({ "outcome": "selected", "optionId": option });
        self.reply(request, &json!({ "outcome": outcome }));
    }

    pub(crate) fn open(&mut self) -> Value {
        let answer = self.call("session/new", json!({ "cwd": "/", "mcpServers": [] }));
        assert!(answer.get("result").is_some(), "{answer}");
        answer["result"].clone()
    }

    pub(crate) fn session(&mut self) -> String {
        self.open()["sessionId"].as_str().unwrap().to_owned()
    }

    pub(crate) fn ask_prompt(&mut self, session: &str, texts: &[&str]) -> u64 {
        let blocks = texts
            .iter()
            .map(|text| json!({ "type": "text", "text": text }));
        let prompt: Vec<Value> = blocks.collect();
        self.ask(
            "session/prompt",
            json!({ "sessionId": session, "prompt": prompt }),
        )
    }

    pub(crate) fn prompt(&mut self, session: &str, texts: &[&str]) -> Value {
        let id = self.ask_prompt(session, texts);
        self.answer(id)
    }

    pub(crate) fn load(&mut self, session: &str) -> Value {
        let params = json!({ "sessionId": session, "cwd": "/", "mcpServers": [] });
        self.call("session/load", params)
    }

    /// Waits for a text of the agent.
    pub(crate) fn hear(&mut self, text: &str) {
        self.find(|frame| {
            let update = &frame["params"]["update"];
            update["sessionUpdate"] == "agent_message_chunk" && update["content"]["text"] == text
        });
    }

    /// Everything that was said and written by both, as an editor shows it.
    pub(crate) fn transcript(&self) -> Vec<&str> {
        let all = self.updates.iter().map(String::as_str);
        all.filter(|update| update.contains("_chunk")).collect()
    }

    /// Closes the input; the program ends at once and says nothing more.
    pub(crate) fn end(mut self) -> usize {
        drop(self.input.take());
        while self.read().is_some() {}
        assert!(self.child.wait().unwrap().success());
        self.frames.count
    }

    /// Ends the program without a chance to do anything about it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn status(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
