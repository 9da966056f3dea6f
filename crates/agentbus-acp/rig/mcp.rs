//! An MCP server whose tool asks the person behind its client.

use std::io::{BufRead, Write};

use serde_json::{Value, json};

pub(crate) fn run() {
    let mut lines = std::io::stdin().lock().lines().map_while(Result::ok);
    let mut read = || {
        lines
            .next()
            .map(|line| serde_json::from_str::<Value>(&line).unwrap())
    };
    let mut abilities = Value::Null;
    while let Some(message) = read() {
        let (id, params) = (&message["id"], &message["params"]);
        let result = match message["method"].as_str().unwrap_or_default() {
            _ if id.is_null() => continue,
            "initialize" => {
                abilities = params["capabilities"].clone();
                json!({ "protocolVersion": params["protocolVersion"], "capabilities": { "tools": {}, "resources": {} },
                    "serverInfo": { "name": "rig", "version": "1.0.0" } })
            }
            "tools/list" => {
                let tool =
                    |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
                match params["cursor"].as_str() {
                    None => {
                        json!({ "tools": [tool("abilities"), tool("elicit")], "nextCursor": "2" })
                    }
                    Some(_) => json!({ "tools": [tool("done")] }),
                }
            }
            "resources/read" if params["uri"] == "rig://bytes" => {
                json!({ "contents": [{ "uri": "rig://bytes", "blob": "AAECAw==" }] })
            }
            "tools/call" => {
                let arguments = &params["arguments"];
                text(&match params["name"].as_str() {
                    Some("abilities") => abilities.clone(),
                    Some("elicit") => {
                        send(
                            &json!({ "id": "q", "method": "elicitation/create", "params": arguments }),
                        );
                        loop {
                            let answer = read().unwrap();
                            if answer["id"] == "q" {
                                break answer.get("result").unwrap_or(&answer["error"]).clone();
                            }
                        }
                    }
                    _ => {
                        let method = "notifications/elicitation/complete";
                        send(&json!({ "method": method, "params": arguments }));
                        Value::Null
                    }
                })
            }
            method => {
                let error = json!({ "code": -32601, "message": format!("no method {method}") });
                send(&json!({ "id": id, "error": error }));
                continue;
            }
        };
        send(&json!({ "id": id, "result": result }));
    }
}

fn text(value: &Value) -> Value {
    json!({ "content": [{ "type": "text", "text": value.to_string() }] })
}

fn send(message: &Value) {
    let mut message = message.clone();
    message["jsonrpc"] = "2.0".into();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{message}").unwrap();
    out.flush().unwrap();
}
