//! What `agentbus mcp` beside a running bus answers to lines that are no proper requests, and to
//! those that it was reading when its client hung up.

use std::path::Path;

use serde_json::{Value, json};

use crate::joining::{greeting, say};
use crate::sdk::Bus;

/// Longest line that the bus takes.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What comes back, line for line, until the program ends of itself.
fn answers(directory: &Path, arguments: &[&str], token: Option<&str>, input: &[u8]) -> Vec<Value> {
    let output = say(directory, arguments, token, input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a client is answered that knows the token.
fn answered(bus: &Bus, input: &[u8]) -> Vec<Value> {
    let arguments = ["--url", &bus.url, "mcp"];
    answers(bus.directory.path(), &arguments, Some(&bus.token), input)
}

/// The ids of the answers with the codes of their errors, which are null where it is a result.
fn outcomes(answers: &[Value]) -> Vec<(Value, Value)> {
    let outcome = |answer: &Value| (answer["id"].clone(), answer["error"]["code"].clone());
    answers.iter().map(outcome).collect()
}

fn lines(messages: &[Value]) -> String {
    messages
        .iter()
        .map(|message| format!("{message}\n"))
        .collect()
}

#[test]
fn a_bad_line_is_answered_and_the_next_one_is_read() {
    let bus = Bus::start();
    let mut input = b"\xff\n".to_vec();
    input.extend(std::iter::repeat_n(b'x', LINE_BYTES_MAX + 1));
    input.extend(b"\n{\n\n \r\n");
    input.extend(lines(&[greeting()]).bytes());
    // The last one has no end.
    input.extend(b"{\"\xff");
    let answers = answered(&bus, &input);
    let expect = [
        (Value::Null, json!(-32700)),
        (Value::Null, json!(-32600)),
        (Value::Null, json!(-32700)),
        (json!(1), Value::Null),
        (Value::Null, json!(-32700)),
    ];
    assert_eq!(outcomes(&answers), expect);
    let too_long = answers[1]["error"]["message"].to_string();
    assert!(too_long.contains(&LINE_BYTES_MAX.to_string()), "{too_long}");
}

#[test]
fn a_message_whose_id_cannot_be_read_is_answered_when_it_is_refused() {
    let bus = Bus::start();
    let ping = json!({ "jsonrpc": "2.0", "id": 7, "method": "ping" });
    let nameless = json!({ "jsonrpc": "2.0", "id": null, "method": "ping" });
    let said = [greeting(), json!([ping]), nameless];
    let answers = answered(&bus, lines(&said).as_bytes());
    let expect = [
        (json!(1), Value::Null),
        (Value::Null, json!(-32600)),
        (Value::Null, json!(-32600)),
    ];
    assert_eq!(outcomes(&answers), expect);
}

#[test]
fn an_id_with_more_digits_than_the_bus_keeps_is_refused_under_itself() {
    let bus = Bus::start();
    let long = "123456789012345678901234567890";
    let ping = format!("{{\"jsonrpc\":\"2.0\",\"id\":{long},\"method\":\"ping\"}}\n");
    let arguments = ["--url", &bus.url, "mcp"];
    let directory = bus.directory.path();
    let output = say(directory, &arguments, Some(&bus.token), ping.as_bytes());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("\"id\":{long},")), "{said}");
    assert!(said.contains("-32600"), "{said}");
}

#[test]
fn a_greeting_that_is_refused_ends_no_session() {
    let bus = Bus::start();
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let bad = json!({ "jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {} });
    let list = json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/list" });
    let said = lines(&[greeting(), ready, bad, list]);
    let answers = answered(&bus, said.as_bytes());
    let result = |id: u64| {
        let answer = answers.iter().find(|answer| answer["id"] == id);
        answer.is_some_and(|answer| answer["result"].is_object())
    };
    assert!(result(1) && !result(2) && result(3), "{answers:?}");
}

#[test]
fn a_notification_is_not_answered_though_it_is_refused() {
    let bus = Bus::start();
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" });
    let said = [notification, json!([]), greeting()];
    let arguments = ["--url", &bus.url, "mcp"];
    // Without the token, everything is refused.
    let directory = bus.directory.path();
    let answers = answers(directory, &arguments, None, lines(&said).as_bytes());
    let expect = [(Value::Null, json!(-32600)), (json!(1), json!(-32603))];
    assert_eq!(outcomes(&answers), expect);
}

#[test]
fn what_is_under_way_when_the_client_hangs_up_is_answered() {
    let bus = Bus::start();
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let mut said = vec![greeting(), ready];
    let list = |id: u64| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list" });
    said.extend((2..22).map(list));
    let answers = answered(&bus, lines(&said).as_bytes());
    let mut results: Vec<u64> = answers
        .iter()
        .filter(|answer| answer["result"].is_object())
        .filter_map(|answer| answer["id"].as_u64())
        .collect();
    results.sort_unstable();
    assert_eq!(results, (1..22).collect::<Vec<u64>>());
}
