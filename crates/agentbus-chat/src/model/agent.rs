//! Agents, as the registry knows them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentId, Stamp};

/// A registered agent. Its token is never part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its unique name: `IDE (Model)`, with a number where that is taken.
    pub name: String,
    /// The program it lives in.
    pub ide: String,
    /// The model it is.
    pub model: String,
    /// What it is good for, in words.
    pub description: Option<String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// What it can do, in the form of an A2A card.
    pub skills: Vec<Value>,
    /// When it registered.
    pub registered_at: Stamp,
    /// Its last heartbeat.
    pub last_heartbeat: Stamp,
    /// The name it chose; empty when it gave it up.
    pub display_name: Option<String>,
    /// Who chose the name.
    pub alias_source: AliasSource,
    /// What it did last.
    pub last_activity: Option<String>,
    /// When it did it.
    pub last_activity_time: Option<Stamp>,
    /// The face that it chose.
    #[serde(default)]
    pub emoji: Option<String>,
}

/// Who chose a display name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AliasSource {
    /// The bus.
    Auto,
    /// The agent or its user.
    User,
}

impl Agent {
    /// The name to show.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        let chosen = self.display_name.as_deref().unwrap_or_default();
        if chosen.is_empty() {
            &self.name
        } else {
            chosen
        }
    }

    /// The name that it or its user chose, if one did.
    #[must_use]
    pub fn configured_name(&self) -> Option<&str> {
        let chosen = self.display_name.as_deref().unwrap_or_default();
        (self.alias_source == AliasSource::User && !chosen.is_empty()).then_some(chosen)
    }

    /// Its face: the one that it chose, else the one of its id.
    #[must_use]
    pub fn emoji(&self) -> &str {
        let own = self.emoji.as_deref();
        own.unwrap_or_else(|| crate::emoji::of_agent(self.id.as_str()))
    }

    /// Whether it gave a sign of life within the timeout.
    #[must_use]
    pub fn is_online(&self, now: Stamp, timeout: Duration) -> bool {
        let recent = |at: Stamp| now.since(at) < timeout;
        recent(self.last_heartbeat) || self.last_activity_time.is_some_and(recent)
    }
}
