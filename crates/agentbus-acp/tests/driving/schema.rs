//! Recordings of the wire, held against the official schema.

use crate::support::frames::{self, Frames, From};

/// Holds a recording against the schema and returns how many lines it had; `None` without a schema.
pub(crate) fn check(recording: &str) -> Option<usize> {
    if !frames::has_schema() {
        return None;
    }
    let mut frames = Frames::new();
    for line in recording.lines() {
        let frame = match line.split_at(2) {
            ("> ", line) => frames.check(From::Client, line),
            ("< ", line) => frames.check(From::Agent, line),
            _ => panic!("no mark: {line}"),
        };
        // Both sides here speak JSON, so there is no line that an answer could not name.
        assert_ne!(frame.get("id"), Some(&serde_json::Value::Null), "{line}");
    }
    Some(frames.count)
}

/// The same for an agent that breaks its lines; those that are messages all the same are held.
pub(crate) fn check_spoilt(recording: &str) -> Option<usize> {
    let kept = recording.lines().filter(|line| {
        let said = line.strip_prefix("< ");
        said.is_none_or(|said| serde_json::from_str::<serde_json::Value>(said).is_ok())
    });
    check(&kept.map(|line| format!("{line}\n")).collect::<String>())
}

#[test]
fn the_judge_refuses_what_the_schema_does() {
    if !frames::has_schema() {
        return;
    }
    let init = r#"> {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}"#;
    assert_eq!(check(init), Some(1));
    assert_eq!(
        check_spoilt(&format!("< a banner\n{init}\n< {{\"half\"")),
        Some(1)
    );
    let twice = format!("{init}\n{init}");
    for bad in [
        twice.as_str(),
        "> a banner",
        "< a banner",
        r#"> {"id":1,"method":"initialize","params":{"protocolVersion":1}}"#,
        r#"> {"jsonrpc":"2.0","params":{}}"#,
        // A method of the other side.
        r#"< {"jsonrpc":"2.0","id":1,"method":"session/prompt","params":{"sessionId":"s","prompt":[]}}"#,
        r#"> {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"one"}}"#,
        r#"> {"jsonrpc":"2.0","id":1,"method":"session/promt","params":{}}"#,
        r#"< {"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"< {"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":{"sessionUpdate":"tool_call"}}}"#,
    ] {
        assert!(std::panic::catch_unwind(|| check(bad)).is_err(), "{bad}");
    }
    for bad in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":true}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":"one","message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1},"error":{"code":1,"message":"m"}}"#,
    ] {
        let answered = format!("{init}\n< {bad}");
        assert!(
            std::panic::catch_unwind(|| check(&answered)).is_err(),
            "{bad}"
        );
    }
}
