//! Targets that are no ACP agents, in the words of the protocol: what they are sent, and what their
//! frames say.

use agentbus::{Error, Payload};
use serde_json::{Value, json};

/// The payload of a prompt: a JSON object that somebody wrote as it is, other text as a string.
pub(super) fn payload(prompt: &Value) -> Result<Payload, Error> {
    let blocks = prompt.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = blocks.iter().filter_map(text_of_block).collect();
    let text = texts.join("\n");
    let object = serde_json::from_str::<Value>(&text).ok();
    Ok(match object.filter(Value::is_object) {
        Some(object) => Payload::json(&object)?,
        None => Payload::json(&text)?,
    })
}

fn text_of_block(block: &Value) -> Option<&str> {
    match block["type"].as_str()? {
        "text" => block["text"].as_str(),
        "resource_link" => block["uri"].as_str(),
        "resource" => block["resource"]["text"].as_str(),
        _ => None,
    }
}

/// What a frame says, as an update: itself if it is one, else its text.
pub(super) fn update(payload: Option<&Payload>) -> Option<Payload> {
    let payload = payload?;
    let value: Value = payload.decode().ok()?;
    if value["sessionUpdate"].is_string() {
        return Some(payload.clone());
    }
    let text = text(&value)?;
    let chunk = json!({ "sessionUpdate": "agent_message_chunk",
        "content": { "type": "text", "text": text } });
    Payload::json(&chunk).ok()
}

/// The text of a payload: that of the members in which agents put it, or else its JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(members) => {
            let known = ["text", "token", "delta", "content"];
            let said = known.iter().find_map(|name| members.get(*name)?.as_str());
            Some(said.map_or_else(|| value.to_string(), str::to_owned))
        }
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frame: &Value, expect: Option<&str>) {
        let said = update(Payload::from_value(frame).unwrap().as_ref());
        let said = said.map(|said| said.decode::<Value>().unwrap());
        let text = said
            .as_ref()
            .map(|said| said["content"]["text"].as_str().unwrap());
        assert_eq!(text, expect, "{frame}");
    }

    #[test]
    fn frames_of_any_target_are_text() {
        check(&json!("three"), Some("three"));
        check(&json!({ "token": "a" }), Some("a"));
        check(&json!({ "text": "b", "n": 1 }), Some("b"));
        check(&json!({ "n": 1 }), Some("{\"n\":1}"));
        check(&json!(3), Some("3"));
        check(&Value::Null, None);
        let thought =
            json!({ "sessionUpdate": "agent_thought_chunk", "content": { "text": "hm" } });
        check(&thought, Some("hm"));
    }

    #[test]
    fn a_prompt_is_text_unless_somebody_wrote_an_object() {
        let said = |text: &str| {
            let link = json!({ "type": "resource_link", "uri": "file:///a" });
            let prompt = json!([{ "type": "text", "text": text }, link]);
            payload(&prompt).unwrap().as_str().to_owned()
        };
        assert_eq!(said("one"), "\"one\\nfile:///a\"");
        let object = json!([{ "type": "text", "text": "{\"method\": \"x\"}" }]);
        assert_eq!(payload(&object).unwrap().as_str(), "{\"method\":\"x\"}");
        let list = json!([{ "type": "text", "text": "[1]" }]);
        assert_eq!(payload(&list).unwrap().as_str(), "\"[1]\"");
    }
}
