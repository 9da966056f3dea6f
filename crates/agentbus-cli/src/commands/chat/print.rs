//! Conversations as lines for people.

use serde_json::Value;

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

pub(super) fn thread(thread: &Value) -> String {
    let (id, status, topic) = (
        text(thread, "id"),
        text(thread, "status"),
        text(thread, "topic"),
    );
    format!("{id}  {status:<9}  {topic}")
}

pub(super) fn message(message: &Value) -> String {
    let (name, role) = (text(message, "author_name"), text(message, "role"));
    format!(
        "[{}] {name} ({role}): {}",
        message["seq"],
        text(message, "content")
    )
}

pub(super) fn hit(hit: &Value) -> String {
    let snippet = text(hit, "snippet")
        .replace("<mark>", "")
        .replace("</mark>", "");
    format!(
        "[{}] {} in {}: {snippet}",
        hit["seq"],
        text(hit, "author"),
        text(hit, "thread_topic")
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
        text(agent, "id"),
        text(agent, "display_name")
    )
}
