//! Tools that read messages.

use std::sync::Arc;

use agentbus_chat::model::{Priority, SearchQuery};
use agentbus_chat::store::MessageQuery;
use agentbus_chat::{ChatError, MessageId, ThreadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::views::{self, HitView, MessageView, ReactionView};
use super::{Services, images, refusal, tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

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
    let priority = services.chat.config().enable_priority;
    let about = Tool::new(
        "msg_list",
        "Read the messages of a thread after a message number, the oldest first.",
    )
    .titled("Read messages")
    .with_optional("priority", priority)
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
    let shown = asked.include_attachments.unwrap_or(true);
    Ok(match asked.return_format {
        Format::Json => Reply::text(listed["messages"].to_string()),
        Format::Blocks => Reply::blocks(images::blocks(services, &messages, shown).await),
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
