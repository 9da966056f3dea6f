//! What conversations look like as JSON.

use std::collections::HashMap;

use agentbus_chat::model::{
    Agent, Edit, Hit, Message, Reaction, SyncContext, TOKEN_EXPIRES, Template, Thread,
    ThreadSettings,
};
use agentbus_chat::{AgentId, emoji};
use serde_json::{Value, json};

/// How metadata is written: as the object that it is, or as text, as in AgentChatBus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metadata {
    Object,
    Text,
}

impl Metadata {
    fn write(self, value: Option<&Value>) -> Value {
        match (self, value) {
            (_, None) => Value::Null,
            (Self::Object, Some(value)) => value.clone(),
            (Self::Text, Some(value)) => Value::String(value.to_string()),
        }
    }
}

pub(super) fn sync(context: &SyncContext) -> Value {
    json!({
        "current_seq": context.current_seq, "reply_token": context.reply_token,
        "reply_window": { "expires_at": TOKEN_EXPIRES,
            "max_new_messages": context.max_new_messages },
    })
}

/// Puts the fields of one object beside those of another.
pub(super) fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut value, more) {
        fields.extend(more);
    }
    value
}

pub(super) fn thread(thread: &Thread) -> Value {
    json!({
        "id": thread.id, "topic": thread.topic, "status": thread.status,
        "system_prompt": thread.system_prompt, "created_at": thread.created_at,
        "updated_at": thread.updated_at, "closed_at": thread.closed_at,
        "summary": thread.summary, "metadata": thread.metadata,
        "template_id": thread.template_id, "workspace": thread.workspace,
    })
}

pub(super) fn message(message: &Message, metadata: Metadata) -> Value {
    let author_id = message.author_id.as_deref();
    json!({
        "id": message.id, "seq": message.seq, "author": message.author,
        "author_id": author_id, "author_name": message.shown_name(),
        "author_emoji": emoji::of_author(message.role.as_str(), author_id, &message.author),
        "role": message.role, "content": message.content, "created_at": message.created_at,
        "priority": message.priority, "reply_to_msg_id": message.reply_to,
        "metadata": metadata.write(message.metadata.as_ref()),
    })
}

/// Gives a message that was written the face that its author chose.
pub(super) fn faced(mut message: Value, faces: &HashMap<String, String>) -> Value {
    let face = message["author_id"].as_str().and_then(|id| faces.get(id));
    if let Some(face) = face.filter(|_| message["role"] != "system") {
        message["author_emoji"] = json!(face);
    }
    message
}

pub(super) fn listed(one: &Message, reactions: &[Reaction], metadata: Metadata) -> Value {
    let own = reactions
        .iter()
        .filter(|reaction| reaction.message_id == one.id);
    let own: Vec<_> = own.map(short_reaction).collect();
    let more = json!({ "thread_id": one.thread_id, "edited_at": one.edited_at,
        "edit_version": one.edit_version, "reactions": own });
    with(message(one, metadata), more)
}

/// A message that a refused poster has not seen.
pub(super) fn unseen(message: &Message) -> Value {
    json!({
        "msg_id": message.id, "seq": message.seq, "author": message.author,
        "role": message.role, "content": message.content, "created_at": message.created_at,
    })
}

fn short_reaction(reaction: &Reaction) -> Value {
    json!({
        "id": reaction.id, "agent_id": reaction.agent_id, "agent_name": reaction.agent_name,
        "reaction": reaction.reaction, "created_at": reaction.created_at,
    })
}

pub(super) fn edit(edit: &Edit) -> Value {
    json!({
        "version": edit.version, "old_content": edit.old_content, "edited_by": edit.edited_by,
        "created_at": edit.created_at,
    })
}

/// What an agent says about itself. Its token is not known here.
pub(super) fn agent(agent: &Agent, is_online: bool) -> Value {
    json!({
        "id": agent.id, "name": agent.name, "display_name": agent.shown_name(),
        "preferred_display_name": agent.shown_name(),
        "configured_display_name": agent.configured_name(),
        "alias_source": agent.alias_source, "description": agent.description,
        "ide": agent.ide, "model": agent.model, "emoji": agent.emoji(),
        "capabilities": agent.capabilities, "skills": agent.skills, "is_online": is_online,
        "last_heartbeat": agent.last_heartbeat, "last_activity": agent.last_activity,
        "last_activity_time": agent.last_activity_time,
    })
}

/// The face of an agent: the one that it chose, else the one of its id.
pub(super) fn face<'a>(id: &AgentId, faces: &'a HashMap<String, String>) -> &'a str {
    let own = faces.get(id.as_str()).map(String::as_str);
    own.unwrap_or_else(|| emoji::of_agent(id.as_str()))
}

pub(super) fn settings(settings: &ThreadSettings, faces: &HashMap<String, String>) -> Value {
    let (assigned, creator) = (settings.assigned.as_ref(), settings.creator.as_ref());
    json!({
        "thread_id": settings.thread_id,
        "auto_administrator_enabled": settings.auto_administrator_enabled,
        "auto_coordinator_enabled": settings.auto_administrator_enabled,
        "timeout_seconds": settings.timeout_seconds,
        "switch_timeout_seconds": settings.switch_timeout_seconds,
        "last_activity_time": settings.last_activity_time,
        "auto_assigned_admin_id": assigned.map(|who| &who.id),
        "auto_assigned_admin_name": assigned.and_then(|who| who.name.as_deref()),
        "auto_assigned_admin_emoji": assigned.map(|who| face(&who.id, faces)),
        "admin_assignment_time": assigned.and_then(|who| who.at),
        "creator_admin_id": creator.map(|who| &who.id),
        "creator_admin_name": creator.and_then(|who| who.name.as_deref()),
        "creator_admin_emoji": creator.map(|who| face(&who.id, faces)),
        "creator_assignment_time": creator.and_then(|who| who.at),
        "created_at": settings.created_at, "updated_at": settings.updated_at,
    })
}

pub(super) fn template(template: &Template) -> Value {
    json!({
        "id": template.id, "name": template.name, "description": template.description,
        "is_builtin": template.is_builtin, "created_at": template.created_at,
    })
}

pub(super) fn hit(hit: &Hit) -> Value {
    json!({
        "message_id": hit.message_id, "id": hit.message_id, "thread_id": hit.thread_id,
        "thread_topic": hit.thread_topic, "author": hit.author, "seq": hit.seq,
        "created_at": hit.created_at, "snippet": hit.snippet, "snippet_html": hit.snippet_html,
    })
}
