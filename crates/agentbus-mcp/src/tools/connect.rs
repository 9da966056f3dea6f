//! `bus_connect`: join in one step.

use std::sync::Arc;

use agentbus_chat::{
    AgentId, ChatError, Connected, Credentials, Join, NewAgent, ProvenAgent, Registered,
    TemplateId, ThreadId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::views::{self, Said, SyncView};
use super::{Services, refusal, tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// The topic of the thread; it is created if there is none of it. This or `thread_id` is needed.
    thread_name: Option<String>,
    /// The id of a thread that there is; it wins over the name.
    thread_id: Option<String>,
    /// Where you run, for example `Claude Code`.
    ide: Option<String>,
    /// The model that you are.
    model: Option<String>,
    /// The last message number that you have seen.
    #[serde(default)]
    after_seq: Option<i64>,
    /// Your id from before, to come back as the same agent. Needs `token`.
    agent_id: Option<String>,
    /// Your token from before.
    token: Option<String>,
    /// What you are here for.
    description: Option<String>,
    /// What you can do, as plain words.
    capabilities: Option<Vec<String>>,
    /// What others shall call you.
    display_name: Option<String>,
    /// The emoji that stands before your name.
    emoji: Option<String>,
    /// What you can do, as objects with `id` and `name`.
    skills: Option<Vec<Value>>,
    /// How agents shall work together in the thread, if it is created.
    system_prompt: Option<String>,
    /// A template for the thread, if it is created.
    template: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Joined {
    agent: Me,
    thread: Place,
    /// The newest messages; before them, if you begin at 0, what every agent is told.
    messages: Vec<Said>,
    /// Whether older messages were left out; read them with `msg_list`.
    history_truncated: bool,
    /// Messages in the thread.
    total_messages: usize,
    #[serde(flatten)]
    sync: SyncView,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Me {
    agent_id: String,
    name: String,
    registered: bool,
    /// Your secret: keep it to come back as the same agent.
    token: String,
    is_administrator: bool,
    role_assignment: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Place {
    thread_id: String,
    topic: String,
    status: &'static str,
    created: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    administrator: Option<Administrator>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Administrator {
    agent_id: String,
    name: Option<String>,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new(
        "bus_connect",
        "Join a thread by its topic, creating it if there is none, and register as an agent. \
         Returns your agent_id and token, what was said, and the reply_token for your first \
         msg_post. Pass agent_id and token to come back as the same agent.",
    )
    .titled("Join a thread")
    .gives::<Joined>();
    tool!(catalog, services, about, connect)
}

async fn connect(services: &Services, call: &Call, asked: Asked) -> Result<Reply, Fault> {
    let topic = match (&asked.thread_id, asked.thread_name) {
        (Some(id), _) => match services.chat.thread(ThreadId::new(id.as_str())).await {
            Ok(thread) => thread.topic,
            Err(error) => return refusal::answer(&error),
        },
        (None, Some(topic)) => topic,
        (None, None) => {
            let text = "Input validation error: 'thread_name' is a required property";
            return Ok(Reply::error(text));
        }
    };
    let credentials = match (asked.agent_id, asked.token) {
        (Some(id), Some(token)) => Some(Credentials {
            agent_id: AgentId::new(id),
            token,
        }),
        _ => None,
    };
    let resuming = credentials.is_some();
    let join = Join {
        topic,
        credentials,
        agent: NewAgent {
            ide: asked.ide.unwrap_or_default(),
            model: asked.model.unwrap_or_default(),
            description: asked.description,
            capabilities: asked.capabilities.unwrap_or_default(),
            skills: asked.skills.unwrap_or_default(),
            display_name: asked.display_name,
            emoji: asked.emoji,
        },
        after_seq: asked.after_seq.unwrap_or(0),
        system_prompt: asked.system_prompt,
        template: asked.template.map(TemplateId::new),
        metadata: None,
    };
    match services.chat.connect(join).await {
        Ok(connected) => {
            let Registered { agent, token } = &connected.registered;
            call.session()
                .bind(ProvenAgent::new(agent.id.clone(), token));
            Ok(Reply::data(&joined(connected)))
        }
        Err(error @ ChatError::Unauthenticated(_)) if resuming => Ok(refusal::refused(&format!(
            "Failed to resume agent: {error}"
        ))),
        Err(error) => refusal::answer(&error),
    }
}

fn joined(connected: Connected) -> Joined {
    let agent = connected.registered.agent;
    let admin = connected.admin.map(|admin| admin.who);
    let leads = admin.as_ref().is_some_and(|admin| admin.id == agent.id);
    let role_assignment = match &admin {
        Some(_) if leads => "You are the ADMINISTRATOR of this thread: you coordinate the others \
            and hand out tasks."
            .to_owned(),
        Some(admin) => format!(
            "You are a PARTICIPANT in this thread. Its administrator is @{}.",
            admin.id
        ),
        None => "You are a PARTICIPANT in this thread. It has no administrator.".to_owned(),
    };
    Joined {
        agent: Me {
            agent_id: agent.id.to_string(),
            name: agent.name,
            registered: true,
            token: connected.registered.token,
            is_administrator: leads,
            role_assignment,
        },
        thread: Place {
            thread_id: connected.thread.id.to_string(),
            topic: connected.thread.topic,
            status: connected.thread.status.as_str(),
            created: connected.created,
            system_prompt: connected.thread.system_prompt.filter(|_| connected.created),
            administrator: admin.map(|admin| Administrator {
                agent_id: admin.id.to_string(),
                name: admin.name,
            }),
        },
        messages: connected.messages.iter().map(views::said).collect(),
        history_truncated: connected.truncated,
        total_messages: connected.total,
        sync: views::sync(&connected.sync),
    }
}
