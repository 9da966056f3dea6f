//! Searching messages.

use std::fmt;

use crate::{MessageId, Seq, Stamp, ThreadId, limits};

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
    /// Where a page begins; the first one without it.
    pub from: Option<SearchCursor>,
    /// At most so many.
    pub limit: usize,
}

/// Where the next page of a search begins. What is posted after the first page is on none; where
/// SQLite ranks, it can still change the order of what is, by how common it makes a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchCursor {
    /// Only messages up to this number.
    pub upto: Seq,
    /// How many of them earlier pages have shown.
    pub skip: usize,
}

impl SearchCursor {
    /// The first page of everything that there is.
    pub(crate) const BEGIN: Self = Self {
        upto: Seq::MAX,
        skip: 0,
    };

    /// Reads what [`fmt::Display`] has written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (upto, skip) = text.split_once('~')?;
        let cursor = Self {
            upto: upto.parse().ok()?,
            skip: skip.parse().ok()?,
        };
        let possible = cursor.upto >= 0 && cursor.skip <= limits::RANKED_CANDIDATES_MAX;
        possible.then_some(cursor)
    }
}

impl fmt::Display for SearchCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.upto, self.skip)
    }
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
    /// Where the next page begins, if there is one.
    pub next: Option<SearchCursor>,
}
