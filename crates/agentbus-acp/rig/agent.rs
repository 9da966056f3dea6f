//! An agent whose prompts are scripts: commands with their arguments, apart by semicolons.

use std::collections::HashMap;
use std::io::{BufRead, BufWriter, Stdout, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

struct Agent {
    out: BufWriter<Stdout>,
    inbox: Receiver<Value>,
    /// Prompts that each session has had.
    sessions: HashMap<String, Vec<String>>,
    servers: Value,
    asked: u64,
    flags: Vec<String>,
    /// The client told the turn to stop.
    cancelled: bool,
}

pub(crate) fn run(flags: &[String]) {
    let (send, inbox) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(serde_json::from_str(&line).unwrap()).is_err() {
                return;
            }
        }
    });
    let mut agent = Agent {
        out: BufWriter::new(std::io::stdout()),
        inbox,
        sessions: HashMap::new(),
        servers: json!([]),
        asked: 0,
        flags: flags.to_vec(),
        cancelled: false,
    };
    if agent.has("banner") {
        agent.raw("Welcome to the agent!\n\nwarning: no model\n");
    }
    while let Ok(message) = agent.inbox.recv() {
        agent.serve(&message);
    }
}

impl Agent {
    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|it| it == flag)
    }

    fn raw(&mut self, text: &str) {
        self.out.write_all(text.as_bytes()).unwrap();
        self.out.flush().unwrap();
    }

    fn send(&mut self, message: &Value) {
        let mut line = message.to_string();
        line.push('\n');
        if self
            .out
            .write_all(line.as_bytes())
            .and_then(|()| self.out.flush())
            .is_err()
        {
            std::process::exit(0);
        }
    }

    fn answer(&mut self, id: &Value, result: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    }

    fn fail(&mut self, id: &Value, code: i64, message: &str) {
        let error = json!({ "code": code, "message": message });
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
    }

    fn serve(&mut self, message: &Value) {
        let (id, params) = (&message["id"], &message["params"]);
        let session = params["sessionId"].as_str().unwrap_or_default().to_owned();
        match message["method"].as_str().unwrap_or_default() {
            "initialize" if self.has("mute") => {}
            "initialize" => self.initialize(id),
            "session/new" if self.has("shut") => {}
            "session/new" if self.has("login") => self.fail(id, -32000, "Authentication required"),
            "session/new" => {
                let session = format!("rig-{}-{}", std::process::id(), self.sessions.len() + 1);
                self.servers = params["mcpServers"].clone();
                self.sessions.insert(session.clone(), Vec::new());
                self.answer(id, &json!({ "sessionId": session }));
                self.update(
                    &session,
                    &json!({ "sessionUpdate": "available_commands_update",
                    "availableCommands": [] }),
                );
            }
            "session/resume" | "session/load" => {
                self.sessions
                    .insert(session.clone(), vec!["earlier".to_owned()]);
                if message["method"] == "session/load" {
                    self.say(&session, "replayed");
                }
                self.answer(id, &json!({}));
            }
            "session/close" => {
                self.sessions.remove(&session);
                self.answer(id, &json!({}));
            }
            "session/prompt" => self.prompt(id, &session, params),
            _ if id.is_null() => {}
            method => {
                let sentence = format!("no method {method}");
                self.fail(id, -32601, &sentence);
            }
        }
    }

    fn initialize(&mut self, id: &Value) {
        let version = if self.has("version-2") { 2 } else { 1 };
        let mut session = json!({});
        for ability in ["resume", "close"] {
            if self.has(ability) {
                session[ability] = json!({});
            }
        }
        self.answer(id, &json!({ "protocolVersion": version,
            "agentInfo": { "name": "rig", "version": "1.0.0" },
            "agentCapabilities": { "loadSession": self.has("load"), "sessionCapabilities": session },
            "authMethods": [{ "id": "key", "name": "An API key" }] }));
    }

    fn prompt(&mut self, id: &Value, session: &str, params: &Value) {
        let script = params["prompt"][0]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if let Some(history) = self.sessions.get_mut(session) {
            history.push(script.clone());
        }
        self.cancelled = false;
        let mut stop = "end_turn".to_owned();
        for command in script.split(';') {
            let command = command.trim();
            let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
            match verb {
                "stop" => stop = rest.to_owned(),
                "error" => return self.fail(id, -32603, rest),
                "wait" => {
                    while !self.cancelled {
                        self.hear();
                    }
                    stop = "cancelled".to_owned();
                }
                _ => self.act(session, verb, rest),
            }
        }
        self.answer(id, &json!({ "stopReason": stop }));
    }

    fn act(&mut self, session: &str, verb: &str, rest: &str) {
        let number = || rest.parse::<u64>().unwrap_or(1);
        match verb {
            "say" => self.say(session, rest),
            "think" => self.chunk(session, "agent_thought_chunk", rest),
            "recall" => {
                let said = self.sessions[session].len().to_string();
                self.say(session, &said);
            }
            "servers" => {
                let servers = self.servers.to_string();
                self.say(session, &servers);
            }
            "tool" => self.tool(session),
            "exit" => std::process::exit(rest.parse().unwrap()),
            "hangup" => std::thread::sleep(Duration::from_secs(60)),
            "deaf" => std::thread::sleep(Duration::from_secs(60)),
            "flood" => (0..number()).for_each(|n| self.say(session, &format!("{n} "))),
            "garbage" => (0..number()).for_each(|_| self.raw("{\"not\": json\n")),
            "stray" => (0..number()).for_each(|_| self.say("nobody", "stray")),
            "long" => {
                let long = "x".repeat(rest.parse().unwrap());
                self.say(session, &long);
            }
            "ask" => {
                let answer = self.ask(session, rest);
                self.say(session, &answer);
            }
            "elicit" => {
                let params = serde_json::from_str(rest).unwrap();
                self.call_and_say(session, "elicitation/create", params);
            }
            "outside" => {
                let params = json!({ "requestId": 1, "mode": "form", "message": "Who are you?",
                    "requestedSchema": { "type": "object", "properties": {} } });
                let answer = self.answer_to("elicitation/create", &params);
                self.say(session, &answer["result"].to_string());
            }
            "done" => self.send(&json!({ "jsonrpc": "2.0", "method": "elicitation/complete",
                "params": { "elicitationId": rest } })),
            "storm" => self.storm(session, number()),
            "read" => self.call_and_say(session, "fs/read_text_file", json!({ "path": rest })),
            "write" => {
                let params = json!({ "path": rest, "content": "written" });
                self.call_and_say(session, "fs/write_text_file", params);
            }
            "run" => self.run(session, rest),
            "unknown" => self.call_and_say(session, "_rig/unknown", json!({})),
            other => self.say(session, &format!("unknown command {other}")),
        }
    }

    fn update(&mut self, session: &str, update: &Value) {
        let params = json!({ "sessionId": session, "update": update });
        self.send(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }));
    }

    fn chunk(&mut self, session: &str, kind: &str, text: &str) {
        let content = json!({ "type": "text", "text": text });
        self.update(
            session,
            &json!({ "sessionUpdate": kind, "content": content }),
        );
    }

    fn say(&mut self, session: &str, text: &str) {
        self.chunk(session, "agent_message_chunk", text);
    }

    fn tool(&mut self, session: &str) {
        for update in [
            json!({ "sessionUpdate": "plan", "_meta": { "rig": { "kept": [1, null] } }, "entries": [
                { "content": "look", "priority": "high", "status": "in_progress",
                    "_meta": { "deep": true } }] }),
            json!({ "sessionUpdate": "tool_call", "toolCallId": "t1", "title": "Look around",
                "kind": "read", "status": "in_progress" }),
            json!({ "sessionUpdate": "tool_call_update", "toolCallId": "t1", "status": "completed" }),
            json!({ "sessionUpdate": "usage_update", "used": 10, "size": 100 }),
            json!({ "sessionUpdate": "current_mode_update", "currentModeId": "code" }),
        ] {
            self.update(session, &update);
        }
    }

    /// Sends a request without waiting for its answer.
    fn request(&mut self, method: &str, params: &Value) -> u64 {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    fn call(&mut self, session: &str, method: &str, mut params: Value) -> Value {
        params["sessionId"] = session.into();
        self.answer_to(method, &params)
    }

    fn answer_to(&mut self, method: &str, params: &Value) -> Value {
        let id = self.request(method, params);
        loop {
            if let Some(answer) = self.hear().filter(|message| message["id"] == id) {
                return answer;
            }
        }
    }

    /// Takes the next message; cancels are noted, prompts of other sessions refused.
    fn hear(&mut self) -> Option<Value> {
        let Ok(message) = self.inbox.recv() else {
            std::process::exit(0);
        };
        match message["method"].as_str() {
            Some("session/cancel") => self.cancelled = true,
            Some(_) => self.serve(&message),
            None => return Some(message),
        }
        None
    }

    fn call_and_say(&mut self, session: &str, method: &str, params: Value) {
        let answer = self.call(session, method, params);
        let told = match answer.get("error") {
            Some(error) => format!("error {}: {}", error["code"], error["message"]),
            None => answer["result"].to_string(),
        };
        self.say(session, &told);
    }

    fn permission(&self, session: &str, kind: &str) -> Value {
        let option = |id: &str, name: &str, kind: &str| json!({ "optionId": id, "name": name, "kind": kind });
        json!({ "sessionId": session,
            "toolCall": { "toolCallId": "t2", "title": "Delete the world", "kind": kind },
            "options": [option("yes", "Allow", "allow_once"), option("no", "Reject", "reject_once")] })
    }

    fn ask(&mut self, session: &str, kind: &str) -> String {
        let params = self.permission(session, kind);
        let answer = self.call(session, "session/request_permission", params);
        let outcome = &answer["result"]["outcome"];
        let chosen = outcome["optionId"].as_str().or(outcome["outcome"].as_str());
        chosen.unwrap_or("error").to_owned()
    }

    /// Asks many things at once and says how many were refused.
    fn storm(&mut self, session: &str, count: u64) {
        let params = self.permission(session, "edit");
        for _ in 0..count {
            self.request("session/request_permission", &params);
        }
        let (mut answered, mut refused) = (0, 0);
        while answered < count {
            if let Some(answer) = self.hear() {
                answered += 1;
                refused += u64::from(answer.get("error").is_some());
            }
        }
        self.say(session, &format!("{refused} refused"));
    }

    fn run(&mut self, session: &str, script: &str) {
        let created = self.call(
            session,
            "terminal/create",
            json!({ "command": "sh", "args": ["-c", script] }),
        );
        let Some(terminal) = created["result"]["terminalId"].as_str().map(str::to_owned) else {
            let error = created["error"]["code"].to_string();
            return self.say(session, &format!("error {error}"));
        };
        let params = json!({ "terminalId": terminal });
        let exit = self.call(session, "terminal/wait_for_exit", params.clone());
        let output = self.call(session, "terminal/output", params.clone());
        self.call(session, "terminal/release", params);
        let said = format!(
            "{} {}",
            exit["result"]["exitCode"], output["result"]["output"]
        );
        self.say(session, &said);
    }
}
