//! Tools of threads.

use std::sync::Arc;

use agentbus_chat::model::{ThreadQuery, ThreadState};
use agentbus_chat::{
    AgentId, AuthProblem, Chat, ChatError, Credentials, NewThread, ProvenAgent, Stamp, TemplateId,
    ThreadId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::views::{self, StateView, SyncView, ThreadView};
use super::{Services, refusal, tool, writing_tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

/// The states of a thread, as words.
const STATES: [&str; 6] = [
    "discuss",
    "implement",
    "review",
    "done",
    "closed",
    "archived",
];

#[derive(Debug, Deserialize, JsonSchema)]
struct Create {
    /// What the thread is about; unique.
    topic: String,
    /// Your agent id.
    agent_id: String,
    /// Your token.
    token: String,
    /// Whatever belongs to the thread.
    metadata: Option<Map<String, Value>>,
    /// How agents shall work together in it.
    system_prompt: Option<String>,
    /// The id of a template for it.
    template: Option<String>,
    /// The directory that it is about, for those who join; the bus does nothing there.
    workspace: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Created {
    thread_id: String,
    topic: String,
    status: &'static str,
    system_prompt: Option<String>,
    template_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace: Option<String>,
    #[serde(flatten)]
    sync: SyncView,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct List {
    /// Only threads in this state.
    #[schemars(extend("enum" = STATES))]
    status: Option<String>,
    /// Archived threads too.
    include_archived: Option<bool>,
    /// At most so many, up to 200; 0 for all.
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    before: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Page {
    threads: Vec<ThreadView>,
    total: usize,
    has_more: bool,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Get {
    /// The thread.
    thread_id: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Whole {
    #[serde(flatten)]
    thread: ThreadView,
    closed_at: Option<String>,
    summary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SetState {
    /// The thread.
    thread_id: String,
    /// Where it stands now.
    #[schemars(extend("enum" = STATES))]
    state: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Close {
    /// The thread.
    thread_id: String,
    /// What came of it.
    summary: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Delete {
    /// The thread.
    thread_id: String,
    /// Must be true: a deleted thread does not come back.
    confirm: bool,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new("thread_list", "List the threads, the newest first.")
        .titled("List threads")
        .gives::<Page>()
        .read_only();
    tool!(catalog, services, about, list)?;
    let about = Tool::new(
        "thread_create",
        "Create a thread, or find the one with this topic. It needs your agent_id and token. \
         Returns the reply_token for your first msg_post in it.",
    )
    .titled("Create a thread")
    .gives::<Created>()
    .idempotent();
    writing_tool!(catalog, services, about, create)?;
    let about = Tool::new("thread_set_state", "Say where a thread stands now.")
        .titled("Set the state of a thread")
        .gives::<StateView>()
        .idempotent();
    writing_tool!(catalog, services, about, set_state)?;
    let about = Tool::new("thread_get", "Look at one thread.")
        .gives::<Whole>()
        .read_only()
        .extended();
    tool!(catalog, services, about, get)?;
    let about = Tool::new(
        "thread_close",
        "Close a thread, with a summary of what came of it.",
    )
    .gives::<StateView>()
    .idempotent()
    .extended();
    writing_tool!(catalog, services, about, close)?;
    let about = Tool::new(
        "thread_archive",
        "Take a thread out of the lists; it can come back.",
    )
    .gives::<StateView>()
    .idempotent()
    .extended();
    writing_tool!(catalog, services, about, archive)?;
    let about = Tool::new(
        "thread_delete",
        "Delete a thread with all its messages, for ever.",
    )
    .destructive()
    .extended();
    writing_tool!(catalog, services, about, delete)
}

async fn create(
    services: &Services,
    call: &Call,
    (asked, chat): (Create, Chat),
) -> Result<Reply, Fault> {
    if asked.agent_id.trim().is_empty() || asked.token.trim().is_empty() {
        return Ok(needs_credentials(&asked.topic));
    }
    let agent = AgentId::new(asked.agent_id);
    let proven = ProvenAgent::new(agent.clone(), &asked.token);
    let who = Credentials {
        agent_id: agent.clone(),
        token: asked.token,
    };
    if let Err(error) = services.chat.verify(who).await {
        let known = services.chat.agent(agent).await.is_ok();
        return match error {
            ChatError::Unauthenticated(_) => Ok(not_proven(known)),
            other => refusal::answer(&other),
        };
    }
    call.session().bind(proven);
    let new = NewThread {
        topic: asked.topic,
        creator: agent,
        metadata: asked.metadata.map(Value::Object),
        system_prompt: asked.system_prompt,
        template: asked.template.map(TemplateId::new),
        workspace: asked.workspace,
    };
    match chat.create_thread(new).await {
        Ok(opened) => Ok(Reply::data(&Created {
            thread_id: opened.thread.id.to_string(),
            topic: opened.thread.topic,
            status: opened.thread.status.as_str(),
            system_prompt: opened.thread.system_prompt,
            template_id: opened.thread.template_id.map(|id| id.to_string()),
            workspace: opened.thread.workspace,
            sync: views::sync(&opened.sync),
        })),
        Err(error) => refusal::answer(&error),
    }
}

fn needs_credentials(topic: &str) -> Reply {
    let input = json!({ "topic": topic, "agent_id": "<agent_id>", "token": "<token>" });
    let resume = json!({ "tool": "agent_resume",
        "input": { "agent_id": "<agent_id>", "token": "<token>" },
        "note": "If you have registered before." });
    let create = json!({ "tool": "thread_create", "input": input });
    refusal::refused_with(
        "thread_create requires explicit agent_id and token in input",
        json!({
            "explanation": "thread_create takes who you are from its input and never from the \
                connection.",
            "credential_source": {
                "from_agent_register": "the agent_id and token that agent_register returned",
                "from_agent_resume": "the agent_id and token that you resumed with",
                "from_bus_connect": "the agent_id and token that bus_connect returned; it makes \
                    the thread as well",
            },
            "how_to_fix": [
                { "tool": "agent_register", "input": { "ide": "<your IDE>", "model": "<your model>" },
                  "note": "Take agent_id and token from its answer." },
                create,
            ],
            "alternative": [resume, create],
        }),
    )
}

fn not_proven(known: bool) -> Reply {
    let (error, hint) = if known {
        let hint = "Pass the agent_id and token that you registered with.";
        (AuthProblem::Token.to_string(), hint)
    } else {
        let hint = "Register first, with bus_connect or agent_register.";
        (AuthProblem::Creator.to_string(), hint)
    };
    refusal::refused_with(&error, json!({ "hint": hint }))
}

async fn list(services: &Services, _: &Call, asked: List) -> Result<Reply, Fault> {
    let before = match asked.before.as_deref().map(cursor) {
        Some(None) => {
            let text = "Invalid 'before' cursor: must be an ISO datetime string";
            return Ok(refusal::refused(text));
        }
        Some(found) => found,
        None => None,
    };
    let query = ThreadQuery {
        status: asked.status,
        include_archived: asked.include_archived.unwrap_or(false),
        limit: asked.limit.unwrap_or(0),
        before,
    };
    let page = match services.chat.threads(query).await {
        Ok(page) => page,
        Err(error) => return refusal::answer(&error),
    };
    let last = page.threads.last().filter(|_| page.has_more);
    // The id makes the time exact when several threads share it.
    let next_cursor = last.map(|last| {
        let shared = page
            .threads
            .iter()
            .filter(|one| one.created_at == last.created_at);
        match shared.count() {
            1 => last.created_at.to_string(),
            _ => format!("{}~{}", last.created_at, last.id),
        }
    });
    Ok(Reply::data(&Page {
        threads: page.threads.iter().map(views::thread).collect(),
        total: page.total,
        has_more: page.has_more,
        next_cursor,
    }))
}

fn cursor(text: &str) -> Option<(Stamp, Option<ThreadId>)> {
    let (time, id) = match text.split_once('~') {
        Some((time, id)) => (time, Some(ThreadId::new(id))),
        None => (text, None),
    };
    Some((Stamp::parse(time)?, id))
}

async fn get(services: &Services, _: &Call, asked: Get) -> Result<Reply, Fault> {
    match services.chat.thread(ThreadId::new(asked.thread_id)).await {
        Ok(thread) => Ok(Reply::data(&Whole {
            thread: views::thread(&thread),
            closed_at: thread.closed_at.map(|time| time.to_string()),
            summary: thread.summary,
            workspace: thread.workspace,
        })),
        Err(error) => refusal::answer(&error),
    }
}

async fn set_state(
    _: &Services,
    _: &Call,
    (asked, chat): (SetState, Chat),
) -> Result<Reply, Fault> {
    let Some(state) = ThreadState::parse(&asked.state) else {
        return Ok(refusal::refused(&format!(
            "Invalid state '{}'",
            asked.state
        )));
    };
    stated(chat.set_state(ThreadId::new(asked.thread_id), state).await)
}

async fn close(_: &Services, _: &Call, (asked, chat): (Close, Chat)) -> Result<Reply, Fault> {
    let thread = ThreadId::new(asked.thread_id);
    stated(chat.close_thread(thread, asked.summary).await)
}

async fn archive(_: &Services, _: &Call, (asked, chat): (Get, Chat)) -> Result<Reply, Fault> {
    stated(chat.archive(ThreadId::new(asked.thread_id)).await)
}

fn stated(thread: Result<agentbus_chat::model::Thread, ChatError>) -> Result<Reply, Fault> {
    match thread {
        Ok(thread) => Ok(Reply::data(&StateView {
            ok: true,
            thread_id: thread.id.to_string(),
            status: thread.status.as_str(),
        })),
        Err(error) => refusal::answer(&error),
    }
}

async fn delete(_: &Services, _: &Call, (asked, chat): (Delete, Chat)) -> Result<Reply, Fault> {
    if !asked.confirm {
        let text = "Deletion aborted: confirm must be true. This action is irreversible.";
        return Ok(refusal::refused(text));
    }
    match chat.delete_thread(ThreadId::new(asked.thread_id)).await {
        Ok(deleted) => Ok(Reply::data(&json!({ "ok": true, "deleted": deleted }))),
        Err(error) => refusal::answer(&error),
    }
}
