//! Conversations as lines for people.

use serde_json::Value;

use crate::plain;

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// A field that somebody chose.
fn field(value: &Value, key: &str) -> String {
    plain::line(text(value, key))
}

pub(super) fn thread(thread: &Value) -> String {
    let (id, status, topic) = (
        field(thread, "id"),
        field(thread, "status"),
        field(thread, "topic"),
    );
    format!("{id}  {status:<9}  {topic}")
}

pub(super) fn message(message: &Value) -> String {
    let (name, role) = (field(message, "author_name"), field(message, "role"));
    format!(
        "[{}] {name} ({role}): {}",
        message["seq"],
        plain::body(text(message, "content"))
    )
}

pub(super) fn hit(hit: &Value) -> String {
    let snippet = text(hit, "snippet")
        .replace("<mark>", "")
        .replace("</mark>", "");
    format!(
        "[{}] {} in {}: {}",
        hit["seq"],
        field(hit, "author"),
        field(hit, "thread_topic"),
        plain::body(&snippet)
    )
}

pub(super) fn agent(agent: &Value) -> String {
    let state = if agent["is_online"] == true {
        "online"
    } else {
        "offline"
    };
    format!(
        "{}  {state:<7}  {}",
        field(agent, "id"),
        field(agent, "display_name")
    )
}
