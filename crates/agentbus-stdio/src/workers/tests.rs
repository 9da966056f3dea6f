//! What the built-in workers answer.

use serde_json::{Value, json};

use super::*;

type Worker = fn(&[u8], &mut Vec<u8>, &mut Vec<u8>) -> io::Result<()>;

const ECHO: Worker = |input, output, log| echo(input, output, log);
const MCP: Worker = |input, output, log| mcp_echo(input, output, log);

/// Gives a worker these lines and returns its lines and what it logged.
fn run(worker: Worker, lines: &str) -> (Vec<Value>, String) {
    let (mut output, mut log) = (Vec::new(), Vec::new());
    worker(lines.as_bytes(), &mut output, &mut log).unwrap();
    let lines = String::from_utf8(output).unwrap();
    let values = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (values.collect(), String::from_utf8(log).unwrap())
}

fn tool(name: &str, arguments: &Value) -> Value {
    let params = json!({ "name": name, "arguments": arguments });
    let line = json!({ "id": 1, "method": "tools/call", "params": params }).to_string();
    run(MCP, &line).0.remove(0)
}

#[test]
fn echo_answers_with_what_it_was_sent() {
    let (said, _) = run(
        ECHO,
        r#"{"id":"x","method":"m","params":{"a":1.0},"sessionId":"s"}"#,
    );
    assert_eq!(said[0]["result"]["echo"], json!({"a":1.0}));
    assert_eq!(said[0]["result"]["method"], "m");
    assert_eq!(
        (&said[0]["id"], &said[0]["sessionId"]),
        (&json!("x"), &json!("s"))
    );
    let time = said[0]["result"]["timestamp"].as_str().unwrap();
    assert_eq!((time.len(), &time[10..11], &time[23..]), (24, "T", "Z"));
}

#[test]
fn echo_notifies_in_a_session_only() {
    let (said, log) = run(
        ECHO,
        "{\"method\":\"n\",\"sessionId\":\"s\"}\n{\"method\":\"n\"}\n\nno json\n{\"id\":1,\"sessionId\":\"\"}",
    );
    assert_eq!(said.len(), 2);
    assert_eq!(said[0]["method"], "echo.notification");
    assert_eq!(said[0]["params"]["original"], json!({}));
    assert_eq!(said[0]["sessionId"], "s");
    assert!(said[1].get("sessionId").is_none());
    assert_eq!(said[1]["result"]["echo"], json!({}));
    assert_eq!(log.lines().count(), 1);
}

#[test]
fn mcp_echo_has_five_tools() {
    let text = |answer: &Value| answer["result"]["content"][0]["text"].clone();
    assert_eq!(text(&tool("echo", &json!({"text":"añb"}))), "añb");
    assert_eq!(text(&tool("reverse", &json!({"text":"añb"}))), "bña");
    assert_eq!(text(&tool("uppercase", &json!({"text":"añb"}))), "AÑB");
    assert_eq!(text(&tool("delay", &json!({"text":"a","ms":0}))), "a");
    let failed = tool("error", &json!({"message":"no"}));
    assert_eq!(failed["result"]["isError"], true);
    assert_eq!(
        tool("nope", &json!({}))["error"]["message"],
        "Unknown tool: nope"
    );
    assert_eq!(tool("echo", &json!({}))["error"]["code"], -32602);
    let (listed, _) = run(MCP, r#"{"id":1,"method":"tools/list"}"#);
    assert_eq!(listed[0]["result"]["tools"].as_array().unwrap().len(), 5);
}

#[test]
fn mcp_echo_has_two_resources() {
    let (said, _) = run(
        MCP,
        concat!(
            r#"{"id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05"}}"#,
            "\n",
            r#"{"method":"notifications/initialized"}"#,
            "\n",
            r#"{"id":2,"method":"resources/read","params":{"uri":"test://greeting"}}"#,
            "\n",
            r#"{"id":3,"method":"resources/read","params":{"uri":"test://nope"}}"#,
            "\n",
            r#"{"id":4,"method":"nope"}"#,
            "\n",
            r#"{"id":5,"method":"resources/list"}"#,
            "\n",
            r#"{"id":6,"method":"resources/read","params":{"uri":"test://config"}}"#,
        ),
    );
    assert_eq!(
        said[0]["result"]["capabilities"],
        json!({ "tools": {}, "resources": {} })
    );
    let listed = said[4]["result"]["resources"].as_array().unwrap();
    let uris: Vec<_> = listed.iter().map(|it| &it["uri"]).collect();
    assert_eq!(uris, ["test://greeting", "test://config"]);
    let config = &said[5]["result"]["contents"][0];
    assert_eq!(config["mimeType"], "application/json");
    let config: Value = serde_json::from_str(config["text"].as_str().unwrap()).unwrap();
    assert_eq!(config["testMode"], true);
    assert_eq!(said[0]["result"]["serverInfo"]["name"], "mcp-echo-server");
    assert_eq!(said[0]["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(
        said[1]["result"]["contents"][0]["text"],
        "Hello from MCP Echo Server!"
    );
    assert!(
        said[2]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("test://nope")
    );
    assert_eq!(said[3]["error"]["code"], -32601);
}
