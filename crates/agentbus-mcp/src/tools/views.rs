//! What conversations look like to agents, with the schemas of it.

use agentbus_chat::model::{
    Agent, Hit, Message, Reaction, SyncContext, TOKEN_EXPIRES, Thread, ThreadSettings,
};
use agentbus_chat::{Chat, ChatConfig};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// What a strict post needs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SyncView {
    /// The number of the last message of the thread that the caller may rely on.
    pub(super) current_seq: i64,
    /// Spent by the next `msg_post`.
    pub(super) reply_token: String,
    pub(super) reply_window: Window,
}

/// How long a reply token is good.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Window {
    expires_at: &'static str,
    /// Messages that may come in between before a post is refused.
    max_new_messages: i64,
}

pub(super) fn sync(context: &SyncContext) -> SyncView {
    SyncView {
        current_seq: context.current_seq,
        reply_token: context.reply_token.clone(),
        reply_window: Window {
            expires_at: TOKEN_EXPIRES,
            max_new_messages: context.max_new_messages,
        },
    }
}

/// A message as `msg_wait` and `msg_list` give it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MessageView {
    msg_id: String,
    author: String,
    author_id: Option<String>,
    author_name: String,
    role: &'static str,
    content: String,
    seq: i64,
    created_at: String,
    /// JSON as text.
    metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<&'static str>,
}

pub(super) fn message(message: &Message, config: &ChatConfig) -> MessageView {
    MessageView {
        msg_id: message.id.to_string(),
        author: message.author.clone(),
        author_id: message.author_id.clone(),
        author_name: message.shown_name().to_owned(),
        role: message.role.as_str(),
        content: message.content.clone(),
        seq: message.seq,
        created_at: message.created_at.to_string(),
        metadata: metadata(message, config),
        priority: config.enable_priority.then(|| message.priority.as_str()),
    }
}

/// The metadata as text, without what is switched off.
pub(super) fn metadata(message: &Message, config: &ChatConfig) -> Option<String> {
    let mut metadata = message.metadata.clone()?;
    if let Some(fields) = metadata.as_object_mut() {
        if !config.enable_handoff_target {
            fields.remove("handoff_target");
        }
        if !config.enable_stop_reason {
            fields.remove("stop_reason");
        }
        if fields.is_empty() {
            return None;
        }
    }
    Some(metadata.to_string())
}

/// A message of the history that a joining agent reads.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Said {
    seq: i64,
    author: String,
    role: &'static str,
    content: String,
    created_at: String,
}

pub(super) fn said(message: &Message) -> Said {
    Said {
        seq: message.seq,
        author: message.shown_name().to_owned(),
        role: message.role.as_str(),
        content: message.content.clone(),
        created_at: message.created_at.to_string(),
    }
}

/// A thread in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ThreadView {
    thread_id: String,
    topic: String,
    /// discuss, implement, review, done, closed or archived.
    status: &'static str,
    created_at: String,
}

pub(super) fn thread(thread: &Thread) -> ThreadView {
    ThreadView {
        thread_id: thread.id.to_string(),
        topic: thread.topic.clone(),
        status: thread.status.as_str(),
        created_at: thread.created_at.to_string(),
    }
}

/// A reaction to a message.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReactionView {
    id: String,
    agent_id: Option<String>,
    agent_name: Option<String>,
    reaction: String,
    created_at: String,
}

pub(super) fn reaction(reaction: &Reaction) -> ReactionView {
    ReactionView {
        id: reaction.id.clone(),
        agent_id: reaction.agent_id.as_ref().map(ToString::to_string),
        agent_name: reaction.agent_name.clone(),
        reaction: reaction.reaction.clone(),
        created_at: reaction.created_at.to_string(),
    }
}

/// An agent of the registry. Its token is not known here.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AgentView {
    agent_id: String,
    name: String,
    ide: String,
    model: String,
    display_name: String,
    emoji: String,
    /// Whether the display name was chosen: user or auto.
    alias_source: Value,
    description: Option<String>,
    is_online: bool,
    capabilities: Vec<String>,
    skills: Vec<Value>,
    last_heartbeat: String,
    last_activity: Option<String>,
    last_activity_time: Option<String>,
}

pub(super) fn agent(agent: &Agent, chat: &Chat) -> AgentView {
    AgentView {
        agent_id: agent.id.to_string(),
        name: agent.name.clone(),
        ide: agent.ide.clone(),
        model: agent.model.clone(),
        display_name: agent.shown_name().to_owned(),
        emoji: agent.emoji().to_owned(),
        alias_source: serde_json::json!(agent.alias_source),
        description: agent.description.clone(),
        is_online: agent.is_online(chat.now(), chat.config().heartbeat_timeout),
        capabilities: agent.capabilities.clone(),
        skills: agent.skills.clone(),
        last_heartbeat: agent.last_heartbeat.to_string(),
        last_activity: agent.last_activity.clone(),
        last_activity_time: agent.last_activity_time.map(|time| time.to_string()),
    }
}

/// A message that a search found.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HitView {
    message_id: String,
    thread_id: String,
    thread_topic: String,
    author: String,
    seq: i64,
    created_at: String,
    /// The part that matches.
    snippet: String,
}

pub(super) fn hit(hit: &Hit) -> HitView {
    HitView {
        message_id: hit.message_id.to_string(),
        thread_id: hit.thread_id.to_string(),
        thread_topic: hit.thread_topic.clone(),
        author: hit.author.clone(),
        seq: hit.seq,
        created_at: hit.created_at.to_string(),
        snippet: hit.snippet.clone(),
    }
}

/// How a thread is administered.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SettingsView {
    thread_id: String,
    auto_administrator_enabled: bool,
    timeout_seconds: i64,
    switch_timeout_seconds: i64,
    auto_assigned_admin_id: Option<String>,
    auto_assigned_admin_name: Option<String>,
}

pub(super) fn settings(settings: &ThreadSettings) -> SettingsView {
    let assigned = settings.assigned.as_ref();
    SettingsView {
        thread_id: settings.thread_id.to_string(),
        auto_administrator_enabled: settings.auto_administrator_enabled,
        timeout_seconds: settings.timeout_seconds,
        switch_timeout_seconds: settings.switch_timeout_seconds,
        auto_assigned_admin_id: assigned.map(|who| who.id.to_string()),
        auto_assigned_admin_name: assigned.and_then(|who| who.name.clone()),
    }
}

/// That something was done.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ok {
    pub(super) ok: bool,
}

/// What a tool says of a thread whose state it set.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StateView {
    pub(super) ok: bool,
    pub(super) thread_id: String,
    pub(super) status: &'static str,
}
