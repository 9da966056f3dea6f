//! A small MCP server: five tools and two resources, to try a client or a bus with.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Answer, Message, for_each_line, write_line};

/// Protocol version for a client that asks for none.
const PROTOCOL_VERSION: &str = "2025-06-18";

/// Longest that the tool `delay` waits: one minute. Requests behind it wait too.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// A JSON-RPC error: its code and its message.
type Failure = (i32, String);

/// Serves until `input` ends.
///
/// # Errors
///
/// The first failure to read or to write.
pub fn mcp_echo(input: impl Read, output: &mut impl Write, log: &mut impl Write) -> io::Result<()> {
    for_each_line(input, output, |line, output| {
        let message = match serde_json::from_slice::<Message<'_>>(line) {
            Ok(message) => message,
            Err(error) => return writeln!(log, "a line is no JSON-RPC: {error}"),
        };
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else {
            return Ok(());
        };
        let params = message
            .params
            .and_then(|params| serde_json::from_str(params.get()).ok())
            .unwrap_or(Value::Null);
        match serve(method, &params) {
            Ok(result) => {
                let answer = Answer {
                    jsonrpc: "2.0",
                    id,
                    result,
                    session: message.session(),
                };
                write_line(output, &answer)
            }
            Err((code, text)) => {
                let error = json!({ "code": code, "message": text });
                write_line(
                    output,
                    &json!({ "jsonrpc": "2.0", "id": id, "error": error }),
                )
            }
        }
    })
}

fn serve(method: &str, params: &Value) -> Result<Value, Failure> {
    match method {
        "initialize" => Ok(json!({
            "protocolVersion": params["protocolVersion"].as_str().unwrap_or(PROTOCOL_VERSION),
            "capabilities": { "tools": {}, "resources": {} },
            "serverInfo": { "name": "mcp-echo-server", "version": "1.0.0" },
        })),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({ "tools": tools() })),
        "tools/call" => call(params),
        "resources/list" => Ok(json!({ "resources": resources() })),
        "resources/read" => read(params),
        _ => Err((-32601, format!("Unknown method: {method}"))),
    }
}

fn tools() -> Value {
    let tool = |name: &str, description: &str, properties: Value, required: &[&str]| {
        let schema = json!({ "type": "object", "properties": properties, "required": required });
        json!({ "name": name, "description": description, "inputSchema": schema })
    };
    let text = json!({ "text": { "type": "string" } });
    let delayed =
        json!({ "text": { "type": "string" }, "ms": { "type": "number", "default": 1000 } });
    json!([
        tool("echo", "Returns the text.", text.clone(), &["text"]),
        tool(
            "reverse",
            "Returns the text backwards.",
            text.clone(),
            &["text"]
        ),
        tool(
            "uppercase",
            "Returns the text in capitals.",
            text,
            &["text"]
        ),
        tool(
            "delay",
            "Returns the text after a while.",
            delayed,
            &["text"]
        ),
        tool(
            "error",
            "Fails with the message.",
            json!({ "message": { "type": "string" } }),
            &["message"]
        ),
    ])
}

fn call(params: &Value) -> Result<Value, Failure> {
    let arguments = &params["arguments"];
    let argument = |name: &str| {
        let value = arguments[name].as_str().map(str::to_owned);
        value.ok_or_else(|| {
            (
                -32602,
                format!("The argument {name} is needed, as a string"),
            )
        })
    };
    let text = match params["name"].as_str().unwrap_or_default() {
        "echo" => argument("text")?,
        "reverse" => argument("text")?.chars().rev().collect(),
        "uppercase" => argument("text")?.to_uppercase(),
        "delay" => {
            let text = argument("text")?;
            let wait = Duration::from_millis(arguments["ms"].as_u64().unwrap_or(1000));
            std::thread::sleep(wait.min(DELAY_MAX));
            text
        }
        "error" => {
            let content = json!([{ "type": "text", "text": argument("message")? }]);
            return Ok(json!({ "content": content, "isError": true }));
        }
        other => return Err((-32603, format!("Unknown tool: {other}"))),
    };
    Ok(json!({ "content": [{ "type": "text", "text": text }] }))
}

fn resources() -> Value {
    json!([
        { "uri": "test://greeting", "name": "Greeting", "mimeType": "text/plain" },
        { "uri": "test://config", "name": "Configuration", "mimeType": "application/json" },
    ])
}

fn read(params: &Value) -> Result<Value, Failure> {
    let uri = params["uri"].as_str().unwrap_or_default();
    let (kind, text) = match uri {
        "test://greeting" => ("text/plain", "Hello from MCP Echo Server!".to_owned()),
        "test://config" => {
            let features = ["echo", "reverse", "uppercase", "delay", "error"];
            let config = json!({ "version": "1.0.0", "features": features, "testMode": true });
            ("application/json", config.to_string())
        }
        other => return Err((-32603, format!("Unknown resource: {other}"))),
    };
    Ok(json!({ "contents": [{ "uri": uri, "mimeType": kind, "text": text }] }))
}
