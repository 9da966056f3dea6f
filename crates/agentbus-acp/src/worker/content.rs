//! Content on its way between ACP, MCP and plain text.

use serde_json::Value;

use super::mcp::{Held, Said, Servers};
use crate::sdk::serving::schema::{
    ContentBlock, EmbeddedResourceResource, ResourceLink, ToolCallContent,
};

/// Returns what a block of a prompt is as text, for an engine that knows nothing else.
///
/// A link is followed: into the first MCP server of the session that has the resource.
pub(super) async fn text_of(block: &ContentBlock, servers: &Servers) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::ResourceLink(link) => followed(link, servers.read(&link.uri).await),
        ContentBlock::Resource(embedded) => embedded_text(&embedded.resource),
        ContentBlock::Image(image) => format!("[Image: {}]", image.mime_type),
        ContentBlock::Audio(audio) => format!("[Audio: {}]", audio.mime_type),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

fn followed(link: &ResourceLink, held: Option<Held>) -> String {
    match held {
        Some(Held::Text(text)) => format!("[Resource: {}]\n{text}", link.name),
        Some(Held::Binary(bytes)) => {
            format!("[Resource: {}] (binary data, {bytes} bytes)", link.name)
        }
        None => format!("[Resource: {}] {}", link.name, link.uri),
    }
}

fn embedded_text(resource: &EmbeddedResourceResource) -> String {
    match resource {
        EmbeddedResourceResource::TextResourceContents(text) => {
            format!("[Embedded resource: {}]\n{}", text.uri, text.text)
        }
        EmbeddedResourceResource::BlobResourceContents(blob) => {
            format!("[Embedded resource: {}] (binary data)", blob.uri)
        }
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// Returns what a tool said as content of its call. The two protocols share their blocks; what
/// only MCP knows is shown as JSON, and an error with words as one block that says so.
pub(super) fn of_tool(said: &Said) -> Vec<ToolCallContent> {
    let words = words_of(said);
    if said.failed && !words.is_empty() {
        return vec![format!("Error: {words}").into()];
    }
    let blocks = said.content.iter().map(|block| {
        let known = serde_json::from_value::<ContentBlock>(block.clone());
        let shown = known.unwrap_or_else(|_| block.to_string().into());
        ToolCallContent::from(shown)
    });
    let mut content: Vec<_> = blocks.collect();
    if let (true, Some(structured)) = (content.is_empty(), &said.structured) {
        content.push(structured.to_string().into());
    }
    content
}

/// Returns the text among what a tool said.
pub(super) fn words_of(said: &Said) -> String {
    let texts = said
        .content
        .iter()
        .filter_map(|block| block["text"].as_str());
    texts.collect::<Vec<_>>().join("\n")
}

/// Returns all that a call showed, as text for a model.
pub(super) fn shown_text(content: &[ToolCallContent]) -> String {
    let parts = content.iter().map(|part| match part {
        ToolCallContent::Content(content) => match &content.content {
            ContentBlock::Text(text) => text.text.clone(),
            ContentBlock::Resource(embedded) => embedded_text(&embedded.resource),
            ContentBlock::Image(image) => format!("[Image: {}]", image.mime_type),
            other => serde_json::to_string(other).unwrap_or_default(),
        },
        other => serde_json::to_string(other).unwrap_or_default(),
    });
    parts.collect::<Vec<_>>().join("\n")
}

/// Returns the content of a failure.
pub(super) fn failure(why: impl Into<String>) -> Said {
    Said {
        content: vec![serde_json::json!({ "type": "text", "text": why.into() })],
        structured: None::<Value>,
        failed: true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(content: Value, failed: bool, expected: &Value) {
        let Value::Array(content) = content else {
            panic!("{content} is no list")
        };
        let said = Said {
            content,
            structured: None,
            failed,
        };
        let mapped = serde_json::to_value(of_tool(&said)).unwrap();
        assert_eq!(mapped, *expected);
    }

    #[test]
    fn blocks_that_both_protocols_know_stay_as_they_are() {
        for block in [
            json!({"type":"text","text":"a"}),
            json!({"type":"image","data":"AA==","mimeType":"image/png"}),
            json!({"type":"resource","resource":{"uri":"file:///a","text":""}}),
            json!({"type":"resource","resource":{"uri":"file:///a","blob":"AA=="}}),
        ] {
            check(
                json!([block]),
                false,
                &json!([{"type":"content","content":block}]),
            );
        }
    }

    #[test]
    fn an_unknown_block_is_shown_as_json() {
        let block = json!({"type":"hologram","depth":3});
        let shown = json!([{"type":"content","content":{"type":"text","text":block.to_string()}}]);
        check(json!([block]), false, &shown);
    }

    #[test]
    fn an_error_with_words_is_one_block() {
        let blocks = json!([{"type":"text","text":"a"},{"type":"text","text":"b"}]);
        let shown = json!([{"type":"content","content":{"type":"text","text":"Error: a\nb"}}]);
        check(blocks, true, &shown);
    }
}
