//! What no client should say: each line has its answer, and the next request is served.

use serde_json::{Value, json};

use crate::bus::Bus;
use crate::editor::Editor;
use crate::socket::{Socket, enter};

/// A line, and the id and the code of the error that it is answered with.
const LINES: &[(&str, Option<(&str, i64)>)] = &[
    ("garbage", Some(("null", -32700))),
    ("{\"jsonrpc\":\"2.0\",", Some(("null", -32700))),
    ("[]", Some(("null", -32600))),
    (
        r#"[{"jsonrpc":"2.0","id":1,"method":"session/list"}]"#,
        Some(("null", -32600)),
    ),
    ("42", Some(("null", -32600))),
    ("null", Some(("null", -32600))),
    ("{}", Some(("null", -32600))),
    (r#"{"jsonrpc":"2.0","id":2}"#, Some(("null", -32600))),
    (
        r#"{"jsonrpc":"1.0","id":3,"method":"session/list","params":{}}"#,
        Some(("null", -32600)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":true,"method":"session/list","params":{}}"#,
        Some(("null", -32600)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":1.5,"method":"session/list","params":{}}"#,
        Some(("null", -32600)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":4,"method":"session/list","params":5}"#,
        Some(("null", -32600)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":5,"method":7}"#,
        Some(("null", -32600)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":6,"method":"nonsense"}"#,
        Some(("6", -32601)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":"seven","method":"_nonsense"}"#,
        Some((r#""seven""#, -32601)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":8,"method":"session/prompt"}"#,
        Some(("8", -32602)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":9,"method":"session/prompt","params":[1]}"#,
        Some(("9", -32602)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":10,"method":"session/prompt","params":{"sessionId":"no","prompt":[]}}"#,
        Some(("10", -32002)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":11,"method":"session/load","params":{"sessionId":"no","cwd":"/","mcpServers":[]}}"#,
        Some(("11", -32002)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":12,"method":"session/close","params":{"sessionId":"no"}}"#,
        Some(("12", -32002)),
    ),
    (
        r#"{"jsonrpc":"2.0","id":13,"method":"session/new","params":{"cwd":"here","mcpServers":[]}}"#,
        Some(("13", -32602)),
    ),
    // What asks for no answer gets none.
    (r#"{"jsonrpc":"2.0","method":"nonsense"}"#, None),
    (r#"{"jsonrpc":"2.0","method":"session/cancel"}"#, None),
    (
        r#"{"jsonrpc":"2.0","method":"session/cancel","params":{"sessionId":"no"}}"#,
        None,
    ),
    (
        r#"{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":77}}"#,
        None,
    ),
    // What nobody asked for is answered by nobody.
    (r#"{"jsonrpc":"2.0","id":14,"result":{}}"#, None),
    (
        r#"{"jsonrpc":"2.0","id":15,"error":{"code":1,"message":"no"}}"#,
        None,
    ),
];

/// A connection that takes any line.
trait Raw {
    fn put(&mut self, line: &str);
    fn get(&mut self) -> Value;
}

impl Raw for Editor {
    fn put(&mut self, line: &str) {
        self.write(line);
    }

    fn get(&mut self) -> Value {
        serde_json::from_str(&self.line().expect("the bus hung up")).unwrap()
    }
}

impl Raw for Socket {
    fn put(&mut self, line: &str) {
        self.send(line);
    }

    fn get(&mut self) -> Value {
        serde_json::from_str(&self.line().expect("the bus hung up")).unwrap()
    }
}

fn request(id: &str, method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// Sends a line and a request behind it; both have their answers, and nothing else comes.
fn check(raw: &mut impl Raw, line: &str, expect: Option<(&str, i64)>) {
    raw.put(line);
    raw.put(&request("alive", "session/list", &json!({})));
    let (mut refused, mut alive) = (None, false);
    while !alive || refused.is_none() && expect.is_some() {
        let frame = raw.get();
        match frame["id"] == "alive" && frame["result"].is_object() {
            true => alive = true,
            false => refused = Some(frame),
        }
    }
    let told = refused.map(|it| (it["id"].to_string(), it["error"]["code"].as_i64().unwrap()));
    let expect = expect.map(|(id, code)| (id.to_owned(), code));
    assert_eq!(told, expect, "{line}");
}

/// The answers to these ids, in the order in which they come; updates are passed over.
fn answers(raw: &mut impl Raw, ids: &[&str]) -> Vec<Value> {
    let mut all = Vec::new();
    while all.len() < ids.len() {
        let frame = raw.get();
        if frame.get("method").is_none() {
            assert!(ids.iter().any(|id| frame["id"] == *id), "{frame}");
            all.push(frame);
        }
    }
    all
}

fn check_all(raw: &mut impl Raw) {
    raw.put(&request("early", "session/list", &json!({})));
    let early = raw.get();
    assert_eq!(early["error"]["code"], -32600, "{early}");
    let sentence = early["error"]["message"].as_str().unwrap();
    assert!(sentence.contains("send that one first"), "{sentence}");
    let hello = json!({ "protocolVersion": 1 });
    raw.put(&request("hello", "initialize", &hello));
    assert_eq!(raw.get()["result"]["protocolVersion"], 1);
    for (line, expect) in LINES {
        check(raw, line, *expect);
    }
    let deep = "[".repeat(100_000);
    check(raw, &deep, Some(("null", -32700)));
    // Six times as long where it is quoted, which would be more than a message may have.
    let long = "\u{1}".repeat(3 * 1024 * 1024);
    check(raw, &long, Some(("null", -32700)));
    check_turns(raw);
}

/// A prompt while one runs, an id that is in use, and a cancel for what has ended.
fn check_turns(raw: &mut impl Raw) {
    let new = json!({ "cwd": "/", "mcpServers": [] });
    raw.put(&request("new", "session/new", &new));
    let opened = answers(raw, &["new"]).remove(0);
    let session = opened["result"]["sessionId"].as_str().unwrap();
    let prompt = |id: &str, text: &str| {
        let prompt = json!([{ "type": "text", "text": text }]);
        let params = json!({ "sessionId": session, "prompt": prompt });
        request(id, "session/prompt", &params)
    };
    raw.put(&prompt("first", "/wait 1"));
    raw.put(&prompt("second", "at once"));
    raw.put(&prompt("second", "again"));
    let ended = answers(raw, &["first", "second", "second"]);
    for answer in &ended {
        assert_eq!(answer["result"]["stopReason"], "end_turn", "{answer}");
    }
    assert_eq!(ended[0]["id"], "first");
    let cancel = json!({ "sessionId": session });
    let cancel = json!({ "jsonrpc": "2.0", "method": "session/cancel", "params": cancel });
    raw.put(&cancel.to_string());
    raw.put(&prompt("third", "on"));
    let ended = answers(raw, &["third"]);
    assert_eq!(ended[0]["result"]["stopReason"], "end_turn");
}

#[test]
fn each_line_on_a_pipe_has_its_answer() {
    let bus = Bus::start();
    let mut editor = Editor::start(&bus, &[]);
    check_all(&mut editor);
    editor.write_bytes(b"\xff\xfe");
    let refused = editor.get();
    assert_eq!(refused["error"]["code"], -32700, "{refused}");
    editor.end();
}

#[test]
fn each_frame_on_the_socket_has_its_answer() {
    let bus = Bus::start();
    check_all(&mut enter(&bus));
}

#[test]
fn requests_that_are_none_hold_nothing_up() {
    let bus = Bus::start();
    let mut socket = enter(&bus);
    socket.put(&request(
        "hello",
        "initialize",
        &json!({ "protocolVersion": 1 }),
    ));
    socket.get();
    // More than answers that may wait to be read, and none of them carries an id.
    for _ in 0..1100 {
        socket.put(r#"{"jsonrpc":"1.0","id":1,"method":"session/list","params":{}}"#);
        assert_eq!(socket.get()["error"]["code"], -32600);
    }
    check(&mut socket, "{}", Some(("null", -32600)));
}
