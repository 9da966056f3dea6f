//! Conversations from the command line.

mod api;
mod import;
mod print;
mod terminal;

use agentbus_chat::limits::CONTENT_BYTES_MAX;
use serde_json::{Value, json};

pub(crate) use api::Api;
pub(crate) use import::import;

use crate::args::{PostArgs, SearchArgs, ThreadVerb, WaitArgs};
use crate::failure::{Exit, Failure};
pub(super) use api::escaped;

use super::client::standard_input;

pub(crate) async fn thread(api: &Api, verb: ThreadVerb) -> Result<(), Failure> {
    match verb {
        ThreadVerb::List {
            status,
            all,
            limit,
            cursor,
        } => {
            let path = format!("/api/threads?limit={limit}&include_archived={all}");
            let path = with(path, "status", status.as_deref());
            list(api, &with(path, "before", cursor.as_deref())).await
        }
        ThreadVerb::Show { thread, limit } => show(api, &thread, limit).await,
        ThreadVerb::Create {
            topic,
            prompt,
            template,
        } => create(api, &topic, prompt, template).await,
        ThreadVerb::Close { thread, summary } => {
            let id = find(api, &thread).await?;
            let path = format!("/api/threads/{id}/close");
            let closed = api.post(&path, &json!({ "summary": summary })).await?;
            api.say(&closed, &format!("closed {thread}"))
        }
        ThreadVerb::Reopen { thread } => {
            let id = find(api, &thread).await?;
            let path = format!("/api/threads/{id}/state");
            let reopened = api.post(&path, &json!({ "state": "discuss" })).await?;
            api.say(&reopened, &format!("reopened {thread}"))
        }
        ThreadVerb::Export { thread, format } => {
            let id = find(api, &thread).await?;
            let text = api
                .text(&format!("/api/threads/{id}/export?format={format}"))
                .await?;
            api.output.line(text.trim_end())
        }
    }
}

async fn list(api: &Api, path: &str) -> Result<(), Failure> {
    let page = api.get(path).await?;
    api.rows(&page["threads"], print::thread)?;
    tell_more(api, &page);
    Ok(())
}

/// Puts a value into a query, if there is one.
fn with(path: String, name: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{path}&{name}={}", escaped(value)),
        None => path,
    }
}

/// Says how to go on where a page is not all.
fn tell_more(api: &Api, page: &Value) {
    if let Some(next) = page["next_cursor"].as_str() {
        api.output
            .note(&format!("there are more: add --cursor '{next}'"));
    }
}

async fn show(api: &Api, thread: &str, limit: u32) -> Result<(), Failure> {
    let id = find(api, thread).await?;
    let path = format!("/api/threads/{id}/messages?tail=true&limit={limit}");
    api.rows(&api.get(&path).await?, print::message)
}

async fn create(
    api: &Api,
    topic: &str,
    prompt: Option<String>,
    template: Option<String>,
) -> Result<(), Failure> {
    let new = json!({ "topic": topic, "system_prompt": prompt, "template": template });
    let made = terminal::create(api, new).await?;
    let id = made["id"].as_str().unwrap_or_default();
    api.say(&made, id)
}

pub(crate) async fn post(api: &Api, args: PostArgs) -> Result<(), Failure> {
    let id = find(api, &args.thread).await?;
    let content = match args.text.as_str() {
        "-" => {
            let text = standard_input(CONTENT_BYTES_MAX)?;
            text.trim_end_matches('\n').to_owned()
        }
        text => text.to_owned(),
    };
    let body = json!({ "author": args.author, "content": content,
        "reply_to_msg_id": args.reply_to,
        "priority": if args.urgent { "urgent" } else { "normal" } });
    let key = args.key.as_deref().map(|key| ("idempotency-key", key));
    let path = format!("/api/threads/{id}/messages");
    let posted = api.send("POST", &path, key.as_slice(), Some(&body)).await?;
    api.say(&posted, &format!("posted as number {}", posted["seq"]))
}

pub(crate) async fn wait(api: &Api, args: WaitArgs) -> Result<(), Failure> {
    let id = find(api, &args.thread).await?;
    let after = match args.after {
        Some(after) => after,
        None => {
            let path = format!("/api/threads/{id}/sync-context");
            api.post(&path, &json!({})).await?["current_seq"]
                .as_i64()
                .unwrap_or(0)
        }
    };
    // The bus waits no longer than that.
    let seconds = args.timeout.min(agentbus_chat::limits::WAIT_MAX.as_secs());
    let body = json!({ "after_seq": after, "timeout_ms": seconds * 1000 });
    let waited = api.post(&format!("/api/threads/{id}/wait"), &body).await?;
    if waited["messages"].as_array().is_some_and(Vec::is_empty) {
        let message = format!("nobody has posted within {seconds} s");
        return Err(Failure::new(Exit::Timeout, message));
    }
    api.rows(&waited["messages"], print::message)
}

pub(crate) async fn search(api: &Api, args: SearchArgs) -> Result<(), Failure> {
    let order = if args.ranked { "ranked" } else { "newest" };
    let (query, limit) = (escaped(&args.query), args.limit);
    let mut path = format!("/api/search?q={query}&order={order}&limit={limit}");
    if let Some(thread) = &args.thread {
        path = format!("{path}&thread_id={}", find(api, thread).await?);
    }
    path = with(path, "author", args.author.as_deref());
    path = with(path, "cursor", args.cursor.as_deref());
    let page = api.get(&path).await?;
    if let Some(error) = page["query_error"].as_str() {
        api.output
            .note(&format!("taken literally, word by word: {error}"));
    }
    api.rows(&page["results"], print::hit)?;
    tell_more(api, &page);
    Ok(())
}

pub(crate) async fn agents(api: &Api) -> Result<(), Failure> {
    api.rows(&api.get("/api/agents").await?, print::agent)
}

/// Finds a thread by its id, or else by its topic.
async fn find(api: &Api, name: &str) -> Result<String, Failure> {
    let path = format!("/api/threads/{}", escaped(name));
    if let Some(found) = api.try_get(&path).await? {
        return Ok(escaped(found["id"].as_str().unwrap_or(name)));
    }
    let all = api.get("/api/threads?include_archived=true").await?;
    let threads = all["threads"].as_array().cloned().unwrap_or_default();
    let same = |thread: &&Value| thread["topic"] == name;
    match threads
        .iter()
        .find(same)
        .and_then(|thread| thread["id"].as_str())
    {
        Some(id) => Ok(escaped(id)),
        None => Err(Failure::usage(format!(
            "there is no thread with the id or topic `{name}`; `agentbus thread list` shows them"
        ))),
    }
}
