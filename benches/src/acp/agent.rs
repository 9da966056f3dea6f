//! The fastest agent that still speaks ACP: a prompt is a number, and it says so many chunks.

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

/// Lines that are written at once, as an agent does whose model is faster than its pipe.
const BLOCK: usize = 64;

/// Serves whoever started this program, until they hang up.
pub(crate) fn serve() -> io::Result<()> {
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let result = match asked["method"].as_str() {
            Some("initialize") => json!({ "protocolVersion": 1, "agentCapabilities": {} }),
            Some("session/new") => json!({ "sessionId": "bench" }),
            Some("session/prompt") => {
                let text = asked["params"]["prompt"][0]["text"].as_str();
                let count = text.and_then(|text| text.parse().ok()).unwrap_or(1);
                say(&mut output, count)?;
                json!({ "stopReason": "end_turn" })
            }
            _ => continue,
        };
        let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result });
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn say(output: &mut impl Write, count: usize) -> io::Result<()> {
    let content = json!({ "type": "text", "text": "a few words of a model " });
    let update = json!({ "sessionUpdate": "agent_message_chunk", "content": content });
    let params = json!({ "sessionId": "bench", "update": update });
    let line = json!({ "jsonrpc": "2.0", "method": "session/update", "params": params });
    let line = format!("{line}\n");
    let block = line.repeat(BLOCK);
    for _ in 0..count / BLOCK {
        output.write_all(block.as_bytes())?;
    }
    for _ in 0..count % BLOCK {
        output.write_all(line.as_bytes())?;
    }
    output.flush()
}
