//! What keeps posters in step: reply tokens and waits.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Seq, Stamp, ThreadId};

/// When a reply token expires, as it is written: never.
pub const TOKEN_EXPIRES: &str = "9999-12-31T23:59:59+00:00";

/// What a caller needs for its next strict post.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncContext {
    /// Where the thread is.
    pub current_seq: Seq,
    /// Good for one post.
    pub reply_token: String,
    /// How many numbers the thread may move on before the post is refused.
    pub max_new_messages: i64,
}

impl std::fmt::Debug for SyncContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncContext")
            .field("current_seq", &self.current_seq)
            .finish_non_exhaustive()
    }
}

/// A reply token as the store keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself.
    pub token: String,
    /// The thread it is good for.
    pub thread_id: ThreadId,
    /// The agent it was given to; anyone may spend one that was given to nobody.
    pub agent_id: Option<AgentId>,
    /// When it was given out.
    pub issued_at: Stamp,
    /// When it was spent or withdrawn.
    pub consumed_at: Option<Stamp>,
    /// With what it was given out.
    pub source: TokenSource,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("thread_id", &self.thread_id)
            .field("agent_id", &self.agent_id)
            .finish_non_exhaustive()
    }
}

/// With what a reply token was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenSource {
    /// Joining a thread.
    Connect,
    /// A wait, or a successful post, which saves the wait.
    Wait,
    /// Creating a thread, or asking for a token.
    Create,
}

impl TokenSource {
    /// The word that the table of tokens knows for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "bus_connect",
            Self::Wait => "msg_wait",
            Self::Create => "thread_create",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "bus_connect" => Self::Connect,
            "thread_create" => Self::Create,
            _ => Self::Wait,
        }
    }
}

/// An agent that waits in a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The thread.
    pub thread_id: ThreadId,
    /// The agent.
    pub agent_id: AgentId,
    /// Since when it has done nothing else there; its waits without a message in between count as one.
    pub entered_at: Stamp,
    /// How long it means to wait, in milliseconds.
    pub timeout_ms: i64,
}
