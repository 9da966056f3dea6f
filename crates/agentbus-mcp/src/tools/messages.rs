//! Tools that read messages.

use std::sync::Arc;

use agentbus_chat::model::{Message, Priority, SearchQuery};
use agentbus_chat::store::MessageQuery;
use agentbus_chat::{ChatError, MessageId, ThreadId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::views::{self, HitView, MessageView, ReactionView};
use super::{Services, refusal, tool};
use crate::{Call, Catalog, CatalogError, Content, Fault, Reply, Tool};

/// Messages on a page that names no limit.
const PAGE: usize = 100;

/// Results of a search that names no limit.
const HITS: usize = 50;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// A block each for who, what and every image.
    #[default]
    Blocks,
    /// One text of JSON.
    Json,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct List {
    /// The thread.
    thread_id: String,
    /// Only messages after this number.
    after_seq: Option<i64>,
    /// At most so many; 100 without it.
    limit: Option<usize>,
    /// Only messages of this priority.
    #[schemars(extend("enum" = Priority::WORDS))]
    priority: Option<String>,
    /// Blocks to read, or one text of JSON.
    #[serde(default)]
    return_format: Format,
    /// Whether to begin with what every agent is told.
    include_system_prompt: Option<bool>,
    /// Whether images come with the messages.
    include_attachments: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    messages: Vec<Row>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Row {
    #[serde(flatten)]
    message: MessageView,
    reply_to_msg_id: Option<String>,
    reactions: Vec<ReactionView>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Get {
    /// The message.
    message_id: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Found {
    found: bool,
    message: Option<Whole>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Whole {
    #[serde(flatten)]
    message: MessageView,
    thread_id: String,
    reply_to_msg_id: Option<String>,
    edited_at: Option<String>,
    edit_version: i64,
    reactions: Vec<ReactionView>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Search {
    /// Words, "phrases", prefix*, OR, NOT.
    query: String,
    /// Only in this thread.
    thread_id: Option<String>,
    /// At most so many, up to 200; 50 without it.
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Hits {
    results: Vec<HitView>,
    total: usize,
    query: String,
    /// Why the query was taken word by word, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    query_error: Option<String>,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let shown = [("priority", services.chat.config().enable_priority)];
    let about = Tool::new(
        "msg_list",
        "Read the messages of a thread after a message number, the oldest first.",
    )
    .titled("Read messages")
    .takes_schema(super::takes::<List>(&shown))
    .gives::<Listed>()
    .read_only();
    tool!(catalog, services, about, list)?;
    let about = Tool::new(
        "msg_search",
        "Search the messages of all threads, or of one, the newest first.",
    )
    .titled("Search messages")
    .gives::<Hits>()
    .read_only();
    tool!(catalog, services, about, search)?;
    let about = Tool::new("msg_get", "Read one message with its reactions.")
        .gives::<Found>()
        .read_only()
        .extended();
    tool!(catalog, services, about, get)
}

async fn list(services: &Services, _: &Call, asked: List) -> Result<Reply, Fault> {
    let query = MessageQuery {
        after_seq: asked.after_seq.unwrap_or(0),
        priority: asked.priority,
        limit: asked.limit.unwrap_or(PAGE),
        for_agents: true,
        ..MessageQuery::default()
    };
    let guidance = asked.include_system_prompt.unwrap_or(true);
    let thread = ThreadId::new(asked.thread_id);
    let (messages, reactions) = match services.chat.messages(thread, query, guidance).await {
        Ok(found) => found,
        Err(error) => return refusal::answer(&error),
    };
    let config = services.chat.config();
    let rows = messages.iter().map(|message| Row {
        message: views::message(message, config),
        reply_to_msg_id: message.reply_to.as_ref().map(ToString::to_string),
        reactions: reactions
            .iter()
            .filter(|one| one.message_id == message.id)
            .map(views::reaction)
            .collect(),
    });
    let listed = json!(Listed {
        messages: rows.collect()
    });
    let images = asked.include_attachments.unwrap_or(true);
    Ok(match asked.return_format {
        Format::Json => Reply::text(listed["messages"].to_string()),
        Format::Blocks => Reply::blocks(
            messages
                .iter()
                .flat_map(|message| blocks(message, images))
                .collect(),
        ),
    }
    .with_data(listed))
}

async fn get(services: &Services, _: &Call, asked: Get) -> Result<Reply, Fault> {
    let found = services
        .chat
        .message(MessageId::new(asked.message_id))
        .await;
    let found = match found {
        // What is for people only is not there for an agent.
        Ok((message, _)) if message.human_only => None,
        Ok(found) => Some(found),
        Err(ChatError::MessageNotFound(_)) => None,
        Err(error) => return refusal::answer(&error),
    };
    let config = services.chat.config();
    let message = found.map(|(message, reactions)| Whole {
        message: views::message(&message, config),
        thread_id: message.thread_id.to_string(),
        reply_to_msg_id: message.reply_to.as_ref().map(ToString::to_string),
        edited_at: message.edited_at.map(|time| time.to_string()),
        edit_version: message.edit_version,
        reactions: reactions.iter().map(views::reaction).collect(),
    });
    Ok(Reply::data(&Found {
        found: message.is_some(),
        message,
    }))
}

async fn search(services: &Services, _: &Call, asked: Search) -> Result<Reply, Fault> {
    if asked.query.trim().is_empty() {
        return Ok(refusal::refused("query must not be empty"));
    }
    let query = SearchQuery {
        text: asked.query.clone(),
        thread_id: asked.thread_id.map(ThreadId::new),
        for_agents: true,
        limit: asked.limit.unwrap_or(HITS),
        ..SearchQuery::default()
    };
    match services.chat.search(query).await {
        Ok(page) => Ok(Reply::data(&Hits {
            total: page.hits.len(),
            results: page.hits.iter().map(views::hit).collect(),
            query: asked.query,
            query_error: page.query_error,
        })),
        Err(error) => refusal::answer(&error),
    }
}

/// A message as blocks: who and when, what, and its images.
pub(super) fn blocks(message: &Message, images: bool) -> Vec<Content> {
    let head = format!(
        "[{}] {} ({}) {}",
        message.seq,
        message.shown_name(),
        message.role.as_str(),
        message.created_at
    );
    let mut blocks = vec![Content::Text(head)];
    if !message.content.is_empty() {
        blocks.push(Content::text(message.content.as_str()));
    }
    if images && let Some(metadata) = &message.metadata {
        let lists = ["attachments", "images", "image"];
        let found = lists.iter().find_map(|name| metadata.get(name));
        match found {
            Some(Value::Array(list)) => blocks.extend(list.iter().filter_map(image)),
            Some(one) => blocks.extend(image(one)),
            None => {}
        }
    }
    blocks
}

/// An attachment as an image, if it is one and comes with its bytes; else where it is.
fn image(attachment: &Value) -> Option<Content> {
    let text = |names: &[&str]| names.iter().find_map(|name| attachment.get(name)?.as_str());
    let kind = text(&["type", "kind"]).unwrap_or_default().to_lowercase();
    let mut mime = text(&["mimeType", "mime_type"]).map(str::to_owned);
    let mut data = text(&["data", "base64", "b64", "data_url"]);
    let url = text(&["url", "src"]);
    let whole = data.or(url).and_then(|text| text.strip_prefix("data:"));
    if let Some((head, payload)) = whole.and_then(|whole| whole.split_once(',')) {
        mime = mime.or_else(|| head.split(';').next().map(str::to_owned));
        data = Some(payload);
    }
    let is_image = match &mime {
        Some(mime) => mime.starts_with("image/"),
        None => matches!(kind.as_str(), "" | "image"),
    };
    if !is_image {
        return None;
    }
    match data.map(|data| STANDARD.decode(data)) {
        Some(Ok(data)) => Some(Content::Image {
            data,
            mime: mime.unwrap_or_else(|| "image/png".to_owned()),
        }),
        _ => url.map(|url| Content::Text(format!("[image] {url}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attachment: &Value, expect: Option<&Content>) {
        assert_eq!(image(attachment).as_ref(), expect, "{attachment}");
    }

    #[test]
    fn an_attachment_is_an_image_or_nothing() {
        let png = |mime: &str| {
            Some(Content::Image {
                data: b"abc".to_vec(),
                mime: mime.to_owned(),
            })
        };
        check(
            &json!({ "type": "image", "data": "YWJj" }),
            png("image/png").as_ref(),
        );
        check(
            &json!({ "mimeType": "image/gif", "base64": "YWJj" }),
            png("image/gif").as_ref(),
        );
        check(
            &json!({ "url": "data:image/webp;base64,YWJj" }),
            png("image/webp").as_ref(),
        );
        check(&json!({ "type": "file", "data": "YWJj" }), None);
        check(&json!({ "mimeType": "text/plain", "data": "YWJj" }), None);
        let link = Content::text("[image] /static/uploads/a.png");
        check(
            &json!({ "url": "/static/uploads/a.png", "name": "a" }),
            Some(&link),
        );
        check(&json!({ "type": "image", "data": "!" }), None);
    }
}
