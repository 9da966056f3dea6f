//! What the configuration says to MCP clients: which tools and resources they are shown, and which
//! language they are asked to prefer.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::joining::greeting;
use crate::sdk::PROGRAM;
use crate::serving::{Running, SERVE, Serving};

/// A client of `agentbus mcp`.
struct Client {
    writer: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    next: u64,
    /// Ends the program, and the bus that it has joined, if it has.
    running: Vec<Running>,
    _directory: tempfile::TempDir,
}

impl Client {
    /// A client of a bus with this configuration: one that is running, or else its own.
    fn start(config: &str, joins: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("bus.toml"), config).unwrap();
        let program = || {
            let mut program = Command::new(PROGRAM);
            program
                .env("AGENTBUS_DATA_DIR", directory.path().join("data"))
                .env_remove("AGENTBUS_URL")
                .env_remove("AGENTBUS_TOKEN")
                .env_remove("AGENTCHATBUS_EXPOSE_THREAD_RESOURCES")
                .current_dir(directory.path())
                .stderr(Stdio::null());
            program
        };
        let configured = ["--config", "bus.toml"];
        let (mut running, mut client) = (Vec::new(), program());
        if joins {
            let serving = Serving::start(program().args(SERVE).args(configured));
            client.args(["--url", &serving.url, "mcp"]);
            client.env("AGENTBUS_TOKEN", serving.token());
            running.push(serving.process);
        } else {
            let own = ["mcp", "--embedded", "--listen", "127.0.0.1:0"];
            client.args(own).args(configured);
        }
        client.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = client.spawn().unwrap();
        let mut client = Self {
            writer: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            next: 1,
            running,
            _directory: directory,
        };
        // In front of the bus, which it needs until it ends.
        client.running.insert(0, Running(child));
        client.say(&greeting());
        client.answer(1);
        client.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.writer, "{message}").unwrap();
        self.writer.flush().unwrap();
    }

    /// The result of the request with this id.
    fn answer(&mut self, id: u64) -> Value {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            let mut message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == id && message.get("method").is_none() {
                assert!(message["result"].is_object(), "{message}");
                return message["result"].take();
            }
        }
    }

    fn request(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        self.answer(id)
    }

    /// What a tool answers.
    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        let result = self.request("tools/call", &params);
        serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap()
    }

    /// One field of everything that a list has.
    fn list(&mut self, what: &str, field: &str) -> Vec<String> {
        let result = self.request(&format!("{what}/list"), &json!({}));
        let listed = result[what].as_array().unwrap();
        let texts = listed.iter().map(|one| one[field].as_str().unwrap());
        texts.map(str::to_owned).collect()
    }
}

#[test]
fn the_profile_decides_which_tools_are_listed() {
    for joins in [false, true] {
        for (config, all) in [("", false), ("mcp_profile = \"full\"\n", true)] {
            let mut client = Client::start(config, joins);
            let tools = client.list("tools", "name");
            let has = |name: &str| tools.iter().any(|tool| tool == name);
            assert!(has("bus_connect"), "{tools:?}");
            assert_eq!(has("close_meeting"), all, "{config} {joins}: {tools:?}");
        }
    }
}

#[test]
fn the_language_is_the_one_that_is_configured() {
    for joins in [false, true] {
        for (config, language) in [("", "English"), ("mcp_language = \"German\"\n", "German")] {
            let mut client = Client::start(config, joins);
            let told = client.call("bus_get_config", &json!({}));
            assert_eq!(told["preferred_language"], language, "{joins}: {told}");
            assert_eq!(told["language_source"], "default", "{joins}: {told}");
        }
    }
}

#[test]
fn threads_are_listed_as_resources_only_where_that_is_configured() {
    for joins in [false, true] {
        for (config, shown) in [("", false), ("chat_expose_thread_resources = true\n", true)] {
            let mut client = Client::start(config, joins);
            let join = json!({ "thread_name": "plans", "ide": "IDE", "model": "m" });
            let joined = client.call("bus_connect", &join);
            let id = joined["thread"]["thread_id"].as_str().unwrap();
            let transcript = format!("chat://threads/{id}/transcript");
            let listed = client.list("resources", "uri");
            assert_eq!(listed.contains(&transcript), shown, "{joins}: {listed:?}");
            // It can be read in either case.
            let read = client.request("resources/read", &json!({ "uri": transcript }));
            let text = read["contents"][0]["text"].as_str().unwrap();
            assert!(text.starts_with("# Thread: plans"), "{text}");
        }
    }
}
