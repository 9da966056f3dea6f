//! Conversations as resources that can be read and listened to.

use std::fmt::Write as _;
use std::sync::Arc;

use agentbus_chat::model::{Thread, ThreadQuery};
use agentbus_chat::store::MessageQuery;
use agentbus_chat::{ChatError, ThreadId, system_row};
use serde_json::{Value, json};

use super::views::{self};
use super::{Services, config};
use crate::catalog::{ResourceEntry, Values, completer};
use crate::{Call, Catalog, CatalogError, Document, Fault, Resource, limits};

pub(super) const AGENTS: &str = "chat://agents/active";
pub(super) const THREADS: &str = "chat://threads/active";

/// What there is of every thread: its part of the URI, its name, its type.
const PARTS: [(&str, &str, &str); 3] = [
    ("transcript", "Transcript", "text/plain"),
    ("summary", "Summary", "text/plain"),
    ("state", "State", "application/json"),
];

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Resource::new("chat://bus/config", "Bus Configuration")
        .described("Which language to prefer, and where the bus is.")
        .mime("application/json");
    let shared = Arc::clone(services);
    catalog.add_resource(about, move |call: Call, uri, _| {
        let services = Arc::clone(&shared);
        async move { Ok(vec![Document::json(uri, &config::brief(&services, &call))]) }
    })?;
    let about = Resource::new(AGENTS, "Active Agents")
        .described("The agents that are registered, and whether they are online.")
        .mime("application/json");
    let shared = Arc::clone(services);
    catalog.add_resource(about, move |_, uri, _| agents(Arc::clone(&shared), uri))?;
    let about = Resource::new(THREADS, "Active Threads")
        .described("The threads that are not archived.")
        .mime("application/json");
    let shared = Arc::clone(services);
    catalog.add_resource(about, move |_, uri, _| threads(Arc::clone(&shared), uri))?;
    for part in PARTS {
        catalog.put_resource(of_threads(services, part))?;
    }
    Ok(())
}

/// The URI of a part of a thread.
pub(super) fn uri(thread: &str, part: &str) -> String {
    format!("chat://threads/{thread}/{part}")
}

/// The URIs of everything that there is of a thread.
pub(super) fn uris(thread: &str) -> [String; 3] {
    PARTS.map(|(part, _, _)| uri(thread, part))
}

fn of_threads(
    services: &Arc<Services>,
    (part, name, mime): (&'static str, &'static str, &'static str),
) -> ResourceEntry {
    let about = Resource::new(uri("{thread_id}", part), format!("Thread {name}"))
        .described(format!("The {part} of a thread."))
        .mime(mime);
    let shared = Arc::clone(services);
    let read = move |_: Call, uri: String, values: Values| {
        let services = Arc::clone(&shared);
        async move { read(&services, part, uri, &values).await }
    };
    let shared = Arc::clone(services);
    let complete = completer(move |_, typed| ids(Arc::clone(&shared), typed));
    let entry = ResourceEntry::new(about, read).with_completer(complete);
    if !services.chat.config().expose_thread_resources {
        return entry;
    }
    let shared = Arc::clone(services);
    entry.with_lister(move || list(Arc::clone(&shared), part, name, mime))
}

async fn active(services: &Services) -> Result<Vec<Thread>, Fault> {
    let page = services.chat.threads(ThreadQuery::default()).await;
    Ok(page.map_err(Fault::failed)?.threads)
}

/// The ids of threads that begin as typed.
async fn ids(services: Arc<Services>, typed: String) -> Vec<String> {
    let threads = active(&services).await.unwrap_or_default();
    let ids = threads.into_iter().map(|thread| thread.id.to_string());
    ids.filter(|id| id.starts_with(&typed)).collect()
}

async fn list(
    services: Arc<Services>,
    part: &'static str,
    name: &'static str,
    mime: &'static str,
) -> Result<Vec<Resource>, Fault> {
    let threads = active(&services).await?;
    let shown = threads
        .into_iter()
        .filter(|thread| part != "summary" || thread.summary.is_some());
    let resources = shown.map(|thread| {
        Resource::new(
            uri(thread.id.as_str(), part),
            format!("{name}: {}", thread.topic),
        )
        .mime(mime)
    });
    Ok(resources.collect())
}

async fn agents(services: Arc<Services>, uri: String) -> Result<Vec<Document>, Fault> {
    let agents = services.chat.agents().await.map_err(Fault::failed)?;
    let timeout = services.chat.config().heartbeat_timeout;
    let now = services.chat.now();
    let agents = agents.iter().map(|agent| {
        json!({ "agent_id": agent.id, "name": agent.name, "description": agent.description,
            "capabilities": agent.capabilities, "skills": agent.skills,
            "is_online": agent.is_online(now, timeout) })
    });
    Ok(vec![Document::json(uri, &Value::Array(agents.collect()))])
}

async fn threads(services: Arc<Services>, uri: String) -> Result<Vec<Document>, Fault> {
    let threads = active(&services).await?;
    let threads = threads.iter().map(|thread| json!(views::thread(thread)));
    Ok(vec![Document::json(uri, &Value::Array(threads.collect()))])
}

async fn read(
    services: &Services,
    part: &str,
    uri: String,
    values: &Values,
) -> Result<Vec<Document>, Fault> {
    let id = ThreadId::new(values.get("thread_id").cloned().unwrap_or_default());
    let thread = match services.chat.thread(id).await {
        Ok(thread) => thread,
        Err(ChatError::ThreadNotFound(_)) => return Err(Fault::NoResource(uri)),
        Err(error) => return Err(Fault::failed(error)),
    };
    let document = match part {
        "transcript" => {
            let text = transcript(services, &thread).await?;
            Document::text(uri, "text/plain", text)
        }
        "summary" => {
            let none = "No summary was recorded for this thread.".to_owned();
            Document::text(uri, "text/plain", thread.summary.unwrap_or(none))
        }
        _ => Document::json(uri, &state(services, &thread).await?),
    };
    Ok(vec![document])
}

async fn transcript(services: &Services, thread: &Thread) -> Result<String, Fault> {
    let (topic, status) = (&thread.topic, thread.status.as_str());
    let mut text = format!("# Thread: {topic}  [status: {status}]\n");
    let mut line = |seq, author: &str, role: &str, content: &str| {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[seq={seq}] {author} ({role}): {content}");
    };
    let first = system_row(thread);
    line(0, first.shown_name(), first.role.as_str(), &first.content);
    let (mut after_seq, mut left) = (0, limits::TRANSCRIPT_MAX);
    loop {
        let query = MessageQuery {
            after_seq,
            for_agents: true,
            limit: left.min(agentbus_chat::limits::MESSAGES_PAGE_MAX),
            ..MessageQuery::default()
        };
        let page = services
            .chat
            .messages(thread.id.clone(), query, false)
            .await;
        let (messages, _) = page.map_err(Fault::failed)?;
        let Some(last) = messages.last() else {
            return Ok(text);
        };
        after_seq = last.seq;
        left = left.saturating_sub(messages.len());
        for message in &messages {
            let role = message.role.as_str();
            line(message.seq, message.shown_name(), role, &message.content);
        }
        if left == 0 {
            return Ok(text);
        }
    }
}

async fn state(services: &Services, thread: &Thread) -> Result<Value, Fault> {
    let newest = MessageQuery {
        for_agents: true,
        newest: true,
        limit: 1,
        ..MessageQuery::default()
    };
    let page = services
        .chat
        .messages(thread.id.clone(), newest, false)
        .await;
    let (messages, _) = page.map_err(Fault::failed)?;
    let latest = messages.last().map_or(0, |message| message.seq);
    Ok(
        json!({ "thread_id": thread.id, "topic": thread.topic, "status": thread.status,
        "latest_seq": latest, "created_at": thread.created_at }),
    )
}
