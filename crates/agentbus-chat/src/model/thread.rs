//! Threads and their settings.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentId, Stamp, TemplateId, ThreadId};

/// A thread: a topic under which messages are exchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    pub id: ThreadId,
    /// What it is about; unique on the bus.
    pub topic: String,
    /// Where it stands.
    pub status: ThreadState,
    /// When it was created.
    pub created_at: Stamp,
    /// When something last happened in it.
    pub updated_at: Option<Stamp>,
    /// When it was closed.
    pub closed_at: Option<Stamp>,
    /// What came out of it.
    pub summary: Option<String>,
    /// Whatever its creator wants to remember.
    pub metadata: Option<Value>,
    /// What its creator tells every agent in it.
    pub system_prompt: Option<String>,
    /// The template it was made from.
    pub template_id: Option<TemplateId>,
    /// The directory that it is about. The bus does nothing there.
    #[serde(default)]
    pub workspace: Option<String>,
}

/// Where a thread stands. Any state may follow any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThreadState {
    /// Being talked about; where every thread begins.
    Discuss,
    /// Being worked on.
    Implement,
    /// Being looked at.
    Review,
    /// Finished.
    Done,
    /// Takes no more messages.
    Closed,
    /// Out of sight.
    Archived,
}

impl ThreadState {
    /// All of them, in the order in which threads usually pass through them.
    pub const ALL: [Self; 6] = [
        Self::Discuss,
        Self::Implement,
        Self::Review,
        Self::Done,
        Self::Closed,
        Self::Archived,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discuss => "discuss",
            Self::Implement => "implement",
            Self::Review => "review",
            Self::Done => "done",
            Self::Closed => "closed",
            Self::Archived => "archived",
        }
    }

    /// Finds the state that a word means.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Which threads to list, the newest first.
#[derive(Debug, Clone, Default)]
pub struct ThreadQuery {
    /// Only threads in this state; a word that is no state finds none.
    pub status: Option<String>,
    /// Whether archived threads are listed too.
    pub include_archived: bool,
    /// Only threads created before this, and at this time only those with a smaller id.
    pub before: Option<(Stamp, Option<ThreadId>)>,
    /// At most so many; zero for as many as there are.
    pub limit: usize,
}

/// One page of threads.
#[derive(Debug, Clone)]
pub struct ThreadPage {
    /// The threads.
    pub threads: Vec<Thread>,
    /// How many the query has on all pages.
    pub total: usize,
    /// Whether there are more after these.
    pub has_more: bool,
}

/// How the coordinator treats a thread, and who administers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSettings {
    /// The thread.
    pub thread_id: ThreadId,
    /// Whether the coordinator looks after it.
    pub auto_administrator_enabled: bool,
    /// How long all agents may wait before the administrator is called, in seconds.
    pub timeout_seconds: i64,
    /// How long before another administrator is proposed, in seconds.
    pub switch_timeout_seconds: i64,
    /// When the last message came.
    pub last_activity_time: Option<Stamp>,
    /// The administrator that a person has chosen.
    pub assigned: Option<Assigned>,
    /// The administrator who created the thread.
    pub creator: Option<Assigned>,
    /// When the settings were made.
    pub created_at: Stamp,
    /// When they were last changed.
    pub updated_at: Stamp,
}

/// An administrator as the settings remember one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The agent.
    pub id: AgentId,
    /// Its name at that time.
    pub name: Option<String>,
    /// Since when.
    pub at: Option<Stamp>,
}

impl ThreadSettings {
    /// Seconds of both timeouts unless someone decides otherwise.
    pub const TIMEOUT_S: i64 = 60;

    /// The settings of a new thread.
    #[must_use]
    pub fn new(thread_id: ThreadId, creator: Option<Assigned>, now: Stamp) -> Self {
        Self {
            thread_id,
            auto_administrator_enabled: true,
            timeout_seconds: Self::TIMEOUT_S,
            switch_timeout_seconds: Self::TIMEOUT_S,
            last_activity_time: Some(now),
            assigned: None,
            creator,
            created_at: now,
            updated_at: now,
        }
    }

    /// Who administers the thread: its creator, else who was assigned.
    #[must_use]
    pub fn admin(&self) -> Option<Admin> {
        let creator = self.creator.clone().map(|who| (who, AdminKind::Creator));
        let assigned = || {
            self.assigned
                .clone()
                .map(|who| (who, AdminKind::AutoAssigned))
        };
        let (who, kind) = creator.or_else(assigned)?;
        Some(Admin { who, kind })
    }
}

/// The administrator of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Who it is.
    pub who: Assigned,
    /// How it came to be one.
    pub kind: AdminKind,
}

/// How an agent came to administer a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminKind {
    /// By creating it.
    Creator,
    /// By the decision of a person.
    AutoAssigned,
}

/// What is left of a deleted thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Its id.
    pub thread_id: ThreadId,
    /// Its topic.
    pub topic: String,
    /// How many messages went with it.
    pub message_count: usize,
}
