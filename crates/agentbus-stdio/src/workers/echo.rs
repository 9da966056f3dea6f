//! A worker that gives back what it is given.

use std::io::{self, BufRead, Write};
use std::time::SystemTime;

use agentbus_protocol::Timestamp;
use serde_json::{Value, json};

/// Answers each request with its own parameters, and each notification that has a session with a
/// notification. Ends when the input does.
///
/// # Errors
/// Fails when the output cannot be written.
pub fn echo(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    for line in input.split(b'\n') {
        let Some(answer) = answer(&line?) else {
            continue;
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn answer(line: &[u8]) -> Option<Value> {
    let Ok(message) = serde_json::from_slice::<Value>(line) else {
        // Standard output is for messages only; what makes no sense is somebody's mistake.
        tracing::warn!("a line that is no JSON was ignored");
        return None;
    };
    let now = Timestamp::from_system_time(SystemTime::now()).to_string();
    let params = message.get("params").cloned().unwrap_or_else(|| json!({}));
    let session = message
        .get("sessionId")
        .filter(|session| is_truthy(session));
    let mut answer = match (message.get("id"), session) {
        (Some(id), _) => json!({
            "jsonrpc": "2.0",
            "id": id,
            "result": {"echo": params, "method": message.get("method"), "timestamp": now},
        }),
        (None, Some(_)) => json!({
            "jsonrpc": "2.0",
            "method": "echo.notification",
            "params": {"original": params, "timestamp": now},
        }),
        (None, None) => return None,
    };
    if let Some(session) = session {
        answer["sessionId"] = session.clone();
    }
    Some(answer)
}

/// What counts as set where the worker's contract comes from.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot go on should say where"
    )]

    use super::*;

    fn answers(lines: &str) -> Vec<Value> {
        let mut output = Vec::new();
        echo(lines.as_bytes(), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn requests_are_echoed_with_their_session() {
        let said = answers(
            "{\"id\":\"a\",\"method\":\"m\",\"params\":{\"x\":1},\"sessionId\":\"s\"}\nnonsense\n{\"id\":1,\"method\":\"n\"}\n",
        );
        assert_eq!(said[0]["result"]["echo"], json!({"x": 1}));
        assert_eq!(
            (&said[0]["id"], &said[0]["sessionId"]),
            (&json!("a"), &json!("s"))
        );
        assert_eq!(said[0]["result"]["method"], "m");
        assert_eq!(said[1]["result"]["echo"], json!({}));
        assert_eq!(said[1].get("sessionId"), None);
        assert_eq!(said.len(), 2);
    }

    #[test]
    fn only_notifications_with_a_session_are_answered() {
        let said =
            answers("{\"method\":\"m\"}\n{\"method\":\"m\",\"sessionId\":\"s\",\"params\":[1]}\n");
        assert_eq!(said.len(), 1);
        assert_eq!(said[0]["method"], "echo.notification");
        assert_eq!(said[0]["params"]["original"], json!([1]));
    }
}
