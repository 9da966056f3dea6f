//! The engine `openai` as the command starts it: its variables, and an endpoint that answers.

use std::process::Command;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::endpoint::{Endpoint, Script, delta, finish};
use crate::registry::Launcher;
use crate::tap::PROGRAM;

const VARIABLES: [&str; 7] = [
    "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
    "OPENAI_MODEL",
    "OPENAI_SYSTEM_PROMPT",
    "OPENAI_MAX_TOKENS",
    "OPENAI_TEMPERATURE",
    "OPENAI_CONTEXT_TOKENS",
];

fn worker(data: &tempfile::TempDir, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["worker", "acp", "--data-dir"])
        .arg(data.path());
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.env("AGENTBUS_WORKER_ENGINE", "openai");
    command.envs(variables.iter().copied());
    command
}

/// Runs one turn; returns the updates, and the head and body of what the endpoint was asked.
fn turn(variables: &[(&str, &str)]) -> (Vec<Value>, (String, Value)) {
    let runtime = Runtime::new().unwrap();
    let mut events = vec![delta(json!({ "content": "hello" }))];
    events.extend(finish("stop"));
    let endpoint = runtime.block_on(Endpoint::start(vec![Script::Events(events, 3)]));
    let data = tempfile::tempdir().unwrap();
    let base = [("OPENAI_BASE_URL", endpoint.url.as_str())];
    let mut worker = Launcher::of(worker(&data, &[&base[..], variables].concat()));
    let mut ask = |id: u64, method: &str, params: Value| {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        worker.send(&request);
        let mut updates = Vec::new();
        loop {
            let frame = worker.read();
            if frame["id"] == id {
                return (frame["result"].clone(), updates);
            }
            updates.push(frame["params"]["update"].clone());
        }
    };
    ask(1, "initialize", json!({ "protocolVersion": 1 }));
    let (opened, _) = ask(2, "session/new", json!({ "cwd": "/", "mcpServers": [] }));
    let prompt = json!([{ "type": "text", "text": "hi" }]);
    let params = json!({ "sessionId": opened["sessionId"], "prompt": prompt });
    let (done, updates) = ask(3, "session/prompt", params);
    assert_eq!(done["stopReason"], "end_turn", "{done}");
    worker.end();
    let asked = endpoint.requests.lock().unwrap().remove(0);
    (updates, asked)
}

#[test]
fn the_model_is_found_through_the_variables_that_every_tool_of_its_kind_reads() {
    let (updates, (head, body)) = turn(&[
        ("OPENAI_API_KEY", "the-key"),
        ("OPENAI_MODEL", "small, large"),
        ("OPENAI_SYSTEM_PROMPT", "be brief"),
        ("OPENAI_MAX_TOKENS", "7"),
        ("OPENAI_TEMPERATURE", "0.5"),
        ("OPENAI_CONTEXT_TOKENS", "99"),
    ]);
    assert!(head.starts_with("post /v1/chat/completions "), "{head}");
    assert!(head.contains("authorization: bearer the-key"), "{head}");
    assert_eq!(
        (&body["model"], &body["max_tokens"], &body["temperature"]),
        (&json!("small"), &json!(7), &json!(0.5))
    );
    assert_eq!(
        body["messages"][0],
        json!({ "role": "system", "content": "be brief" })
    );
    let used = updates
        .iter()
        .find(|it| it["sessionUpdate"] == "usage_update");
    assert_eq!(used.unwrap()["size"], 99);
}

#[test]
fn a_local_endpoint_needs_nothing_but_its_address() {
    let (_, (head, body)) = turn(&[("OPENAI_API_KEY", "")]);
    assert!(!head.contains("authorization"), "{head}");
    assert_eq!(body["model"], "gpt-4o");
    for unset in ["max_tokens", "temperature"] {
        assert_eq!(body.get(unset), None, "{unset}");
    }
    assert_eq!(
        body["messages"],
        json!([{ "role": "user", "content": "hi" }])
    );
}

#[test]
fn a_number_that_is_none_stops_the_worker_before_it_starts() {
    let data = tempfile::tempdir().unwrap();
    for name in [
        "OPENAI_MAX_TOKENS",
        "OPENAI_TEMPERATURE",
        "OPENAI_CONTEXT_TOKENS",
    ] {
        let output = worker(&data, &[(name, "many")]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(&format!("{name} is `many`")), "{said}");
    }
}
