//! Events and audit entries: what others see of a change, and what remains of it.

use std::sync::Arc;

use serde_json::Value;

use crate::{EventId, Stamp, ThreadId};

/// An event as its maker describes it; the store gives it its number.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// What happened, such as `msg.new`.
    pub kind: &'static str,
    /// The thread in which it happened.
    pub thread_id: Option<ThreadId>,
    /// What there is to say about it.
    pub payload: Value,
}

/// An event that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number: strictly increasing, and visible in that order.
    pub id: EventId,
    /// What happened.
    pub kind: Arc<str>,
    /// The thread in which it happened.
    pub thread_id: Option<ThreadId>,
    /// What there is to say about it, as JSON text.
    pub payload: Arc<str>,
    /// When it happened.
    pub created_at: Stamp,
}

/// Who did what to what. Entries are never removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Stamp,
    /// Who: the name or id that the caller acted under.
    pub actor: String,
    /// What, such as `message.post`.
    pub action: &'static str,
    /// In which thread.
    pub thread_id: Option<ThreadId>,
    /// To what: the id of a message, agent or template.
    pub subject: Option<String>,
}
