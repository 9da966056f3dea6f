//! The line scanner never panics, and what it finds is what a full JSON parser finds.
//!
//! A line that parses is never refused. The converse is not claimed: the scanner passes lines whose
//! nested values are broken.

use agentbus_protocol::jsonrpc::Routing;
use agentbus_protocol::jsonrpc::scan;
use serde_json::Map;
use serde_json::Value;

pub(crate) fn check(line: &[u8]) {
    let scanned = scan(line);
    let parsed = serde_json::from_slice::<Map<String, Value>>(line);
    match (scanned, parsed) {
        (Ok(routing), Ok(object)) => compare(line, &routing, &object),
        (Err(error), Ok(_)) => panic!("refused a good line: {error:?}"),
        (_, Err(_)) => {}
    }
}

fn compare(line: &[u8], routing: &Routing<'_>, object: &Map<String, Value>) {
    let text = |key: &str| {
        object
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    assert_eq!(routing.method.as_deref(), text("method"));
    assert_eq!(routing.session_id.as_deref(), text("sessionId"));
    assert_eq!(routing.pool.as_deref(), text("pool"));
    assert_eq!(routing.agent_id.as_deref(), text("agentId"));
    assert_eq!(routing.result.is_some(), object.contains_key("result"));
    assert_eq!(routing.error.is_some(), object.contains_key("error"));
    let written = routing
        .id_span()
        .map(|span| serde_json::from_slice(&line[span]).unwrap());
    assert_eq!(written.as_ref(), object.get("id"));
}
