//! Searching messages.

use crate::{MessageId, Seq, Stamp, ThreadId};

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct SearchQuery {
    /// Words, `"phrases"`, `prefix*`, `OR`, `NOT`, `NEAR`.
    pub text: String,
    /// Only in this thread.
    pub thread_id: Option<ThreadId>,
    /// Only by this author, by name or id.
    pub author: Option<String>,
    /// Only in this role.
    pub role: Option<String>,
    /// Only in threads of this state.
    pub status: Option<String>,
    /// Only from this time on.
    pub after: Option<Stamp>,
    /// Only before this time.
    pub before: Option<Stamp>,
    /// Whether messages for people only are left out.
    pub for_agents: bool,
    /// What comes first.
    pub order: SearchOrder,
    /// At most so many.
    pub limit: usize,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SearchOrder {
    /// The newest.
    #[default]
    Newest,
    /// The best match among the newest candidates.
    Ranked,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The message.
    pub message_id: MessageId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// The thread's topic.
    pub thread_topic: String,
    /// Who wrote it.
    pub author: String,
    /// Its place on the bus.
    pub seq: Seq,
    /// When it was stored.
    pub created_at: Stamp,
    /// The part that matched, between `<mark>` and `</mark>`. The rest is **not** escaped.
    pub snippet: String,
    /// The same for a page: everything but the marks is escaped.
    pub snippet_html: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchPage {
    /// The messages.
    pub hits: Vec<Hit>,
    /// Why the query could not be read as it was, when every word of it was taken literally.
    pub query_error: Option<String>,
}
