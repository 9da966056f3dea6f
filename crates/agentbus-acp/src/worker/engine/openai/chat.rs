//! A session's history as a model is told it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::sdk::serving::schema::{
    ContentBlock, EmbeddedResourceResource, SessionUpdate, ToolCall, ToolCallStatus, ToolCallUpdate,
};
use crate::worker::content::shown_text;
use crate::worker::replay::merged;

/// Returns the messages of a conversation.
pub(super) fn messages(system: Option<&str>, updates: &[SessionUpdate]) -> Vec<Value> {
    let mut telling = Telling::default();
    if let Some(system) = system {
        let message = json!({ "role": "system", "content": system });
        telling.messages.push(message);
    }
    for update in merged(updates.to_vec()) {
        match &update {
            SessionUpdate::UserMessageChunk(chunk) => telling.asked(&chunk.content),
            SessionUpdate::AgentMessageChunk(chunk) => {
                if let ContentBlock::Text(text) = &chunk.content {
                    telling.said(&text.text);
                }
            }
            SessionUpdate::ToolCall(call) => telling.called(call),
            SessionUpdate::ToolCallUpdate(update) => telling.answered(update),
            _ => {}
        }
    }
    telling.end_of_calls();
    telling.messages.into_iter().map(plain).collect()
}

/// Makes text of a prompt that is nothing else; smaller servers know no parts.
fn plain(mut message: Value) -> Value {
    if let Some(parts) = message["content"].as_array() {
        let texts: Option<Vec<_>> = parts.iter().map(|part| part["text"].as_str()).collect();
        if let Some(texts) = texts {
            message["content"] = texts.join("\n").into();
        }
    }
    message
}

/// A conversation while it is put together.
#[derive(Debug, Default)]
struct Telling {
    messages: Vec<Value>,
    /// Calls without a result. An endpoint refuses a history in which one is left.
    open: BTreeSet<String>,
}

impl Telling {
    fn role(&self) -> &str {
        let last = self.messages.last();
        last.and_then(|last| last["role"].as_str())
            .unwrap_or_default()
    }

    /// Adds to the prompt at the end, or begins one.
    fn asked(&mut self, block: &ContentBlock) {
        self.end_of_calls();
        if self.role() != "user" {
            self.messages.push(json!({ "role": "user", "content": [] }));
        }
        let part = part_of(block);
        if let Some(content) = self
            .messages
            .last_mut()
            .and_then(|last| last["content"].as_array_mut())
        {
            content.push(part);
        }
    }

    fn said(&mut self, text: &str) {
        self.end_of_calls();
        self.messages
            .push(json!({ "role": "assistant", "content": text }));
    }

    /// Adds a call to those of the model's last message.
    fn called(&mut self, call: &ToolCall) {
        let arguments = call
            .raw_input
            .as_ref()
            .map_or("{}".to_owned(), Value::to_string);
        let name = call.name.as_deref().unwrap_or(&call.title);
        let id = &call.tool_call_id.0;
        let function = json!({ "name": name, "arguments": arguments });
        let call = json!({ "id": id, "type": "function", "function": function });
        if self.role() != "assistant" {
            self.messages
                .push(json!({ "role": "assistant", "content": null }));
        }
        if let Some(last) = self.messages.last_mut() {
            match last["tool_calls"].as_array_mut() {
                Some(calls) => calls.push(call),
                None => last["tool_calls"] = json!([call]),
            }
        }
        self.open.insert(id.to_string());
    }

    /// Adds the result of a call once it has one.
    fn answered(&mut self, update: &ToolCallUpdate) {
        let ended = [ToolCallStatus::Completed, ToolCallStatus::Failed];
        let status = update.fields.status.as_ref();
        let id = &*update.tool_call_id.0;
        if status.is_some_and(|status| ended.contains(status)) && self.open.remove(id) {
            let text = shown_text(update.fields.content.as_deref().unwrap_or_default());
            let result = json!({ "role": "tool", "tool_call_id": id, "content": text });
            self.messages.push(result);
        }
    }

    /// Answers the calls that a crash left open.
    fn end_of_calls(&mut self) {
        for id in std::mem::take(&mut self.open) {
            let result =
                json!({ "role": "tool", "tool_call_id": id, "content": "Error: interrupted" });
            self.messages.push(result);
        }
    }
}

fn part_of(block: &ContentBlock) -> Value {
    let text = match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => {
            let url = format!("data:{};base64,{}", image.mime_type, image.data);
            return json!({ "type": "image_url", "image_url": { "url": url } });
        }
        ContentBlock::ResourceLink(link) => format!("[Resource: {}] {}", link.name, link.uri),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            EmbeddedResourceResource::TextResourceContents(text) => {
                format!("[Resource: {}]\n{}", text.uri, text.text)
            }
            EmbeddedResourceResource::BlobResourceContents(blob) => {
                format!("[Resource: {}] (binary data)", blob.uri)
            }
            other => serde_json::to_string(other).unwrap_or_default(),
        },
        ContentBlock::Audio(audio) => format!("[Audio: {}]", audio.mime_type),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    json!({ "type": "text", "text": text })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history as it stands on disk, and what is made of it.
    fn check(history: &Value, expected: &Value) {
        let updates: Vec<SessionUpdate> = serde_json::from_value(history.clone()).unwrap();
        assert_eq!(Value::from(messages(Some("be brief"), &updates)), *expected);
    }

    #[test]
    fn a_history_becomes_a_conversation() {
        let text = |kind: &str, text: &str| json!({ "sessionUpdate": kind, "content": { "type": "text", "text": text } });
        let call = |id: &str| json!({ "sessionUpdate": "tool_call", "toolCallId": id, "title": "Executing: t", "name": "t", "rawInput": { "a": 1 } });
        let said = json!([{ "type": "content", "content": { "type": "text", "text": "r" } }]);
        let history = json!([
            text("user_message_chunk", "one"),
            text("user_message_chunk", "two"),
            text("agent_thought_chunk", "hm"),
            text("agent_message_chunk", "an"),
            text("agent_message_chunk", "swer"),
            call("c1"),
            { "sessionUpdate": "tool_call_update", "toolCallId": "c1", "status": "in_progress" },
            { "sessionUpdate": "tool_call_update", "toolCallId": "c1", "status": "completed", "content": said },
            call("c2"),
            text("user_message_chunk", "three"),
        ]);
        let calls = |id: &str| json!([{ "id": id, "type": "function", "function": { "name": "t", "arguments": "{\"a\":1}" } }]);
        check(
            &history,
            &json!([
                { "role": "system", "content": "be brief" },
                { "role": "user", "content": "one\ntwo" },
                { "role": "assistant", "content": "answer", "tool_calls": calls("c1") },
                { "role": "tool", "tool_call_id": "c1", "content": "r" },
                { "role": "assistant", "content": null, "tool_calls": calls("c2") },
                { "role": "tool", "tool_call_id": "c2", "content": "Error: interrupted" },
                { "role": "user", "content": "three" },
            ]),
        );
    }

    #[test]
    fn each_block_of_a_prompt_becomes_a_part() {
        let text = |text: &str| json!([{ "type": "text", "text": text }]);
        let image =
            json!([{ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } }]);
        for (block, expected) in [
            (
                json!({ "type": "image", "mimeType": "image/png", "data": "AA==" }),
                image,
            ),
            (
                json!({ "type": "resource_link", "name": "n", "uri": "file:///n" }),
                text("[Resource: n] file:///n"),
            ),
            (
                json!({ "type": "resource", "resource": { "uri": "file:///t", "text": "in it" } }),
                text("[Resource: file:///t]\nin it"),
            ),
            (
                json!({ "type": "resource", "resource": { "uri": "file:///b", "blob": "AA==" } }),
                text("[Resource: file:///b] (binary data)"),
            ),
            (
                json!({ "type": "audio", "mimeType": "audio/wav", "data": "AA==" }),
                text("[Audio: audio/wav]"),
            ),
        ] {
            let part: ContentBlock = serde_json::from_value(block.clone()).unwrap();
            assert_eq!(json!([part_of(&part)]), expected, "{block}");
            let history = json!([{ "sessionUpdate": "user_message_chunk", "content": block }]);
            let updates: Vec<SessionUpdate> = serde_json::from_value(history).unwrap();
            let content = match expected[0]["text"].as_str() {
                Some(words) => json!(words),
                None => expected,
            };
            let told = json!([{ "role": "user", "content": content }]);
            assert_eq!(Value::from(messages(None, &updates)), told);
        }
    }
}
