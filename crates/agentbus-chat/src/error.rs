//! Why a conversation could not do what it was asked.

use crate::model::Message;
use crate::store::StoreError;
use crate::{AgentId, MessageId, Seq, Stamp, TemplateId, ThreadId};

/// Everything that can go wrong between a caller and the store.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// There is no such thread.
    #[error("there is no thread `{0}`; list the threads to see which there are")]
    ThreadNotFound(ThreadId),
    /// There is no such message.
    #[error("there is no message `{0}`")]
    MessageNotFound(MessageId),
    /// There is no such agent.
    #[error("there is no agent `{0}`; it has to register first")]
    AgentNotFound(AgentId),
    /// There is no such template.
    #[error("there is no template `{0}`; list the templates to see which there are")]
    TemplateNotFound(TemplateId),
    /// The thread is closed and takes no more messages.
    #[error("the thread `{0}` is closed; set it to another state first, or post elsewhere")]
    ThreadClosed(ThreadId),
    /// An argument makes no sense; the text says which.
    #[error("{0}")]
    Invalid(String),
    /// The caller did not prove to be the agent it speaks for.
    #[error("{0}")]
    Unauthenticated(AuthProblem),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// What is asked contradicts what there is.
    #[error("{0}")]
    Conflict(String),
    /// A text holds what looks like a secret.
    #[error("the {field} looks like it holds a secret ({pattern}); take it out and try again")]
    ContentBlocked {
        /// `content` or `system_prompt`.
        field: &'static str,
        /// The label of the pattern that matched.
        pattern: &'static str,
    },
    /// A strict post came without the fields that make it strict.
    #[error("a strict post needs {}; call msg_wait to get them", .missing.join(" and "))]
    MissingSyncFields {
        /// The fields.
        missing: Vec<&'static str>,
    },
    /// The reply token was not given out for this thread and author.
    #[error("the reply token is not valid here; get a fresh one")]
    TokenInvalid,
    /// The reply token was spent already.
    #[error("the reply token was spent at {consumed_at}; get a fresh one")]
    TokenReplay {
        /// When it was spent.
        consumed_at: Stamp,
    },
    /// The thread has moved on since the caller looked.
    #[error("the caller has seen {expected}, the thread is at {current}; read what is new first")]
    SeqMismatch {
        /// What the caller had seen.
        expected: Seq,
        /// Where the thread is.
        current: Seq,
        /// What the caller has not seen, within the configured number.
        new_messages: Vec<Message>,
    },
    /// The author posts too much.
    #[error("more than {limit} messages in {window_s} s; wait {window_s} s")]
    RateLimited {
        /// Messages that are allowed.
        limit: u32,
        /// The window in seconds, which is also how long to wait.
        window_s: u64,
    },
    /// Something is larger than its limit.
    #[error("the {what} has {bytes} bytes; at most {limit} are taken")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// What would have been accepted.
        limit: usize,
    },
    /// One of the named limits is reached.
    #[error("there are {limit} {what} already; remove some first")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// An idempotency key was used for another request.
    #[error("this idempotency key was used for another request; choose a new one")]
    KeyReused,
    /// A wait is shorter than those that are honoured.
    #[error("a wait lasts at least {min_ms} ms here, and {asked_ms} were asked for; wait longer")]
    WaitTooShort {
        /// What was asked for, in milliseconds.
        asked_ms: u64,
        /// What would have been accepted.
        min_ms: u64,
    },
    /// The agent that waits was sent away.
    #[error("the agent `{0}` was sent away; resume or register again")]
    Kicked(AgentId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with the proof of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthProblem {
    /// Id and token do not belong together.
    #[error("Invalid agent_id/token")]
    Credentials,
    /// Only one of id and token was given.
    #[error("agent_id and token belong together; give both or none")]
    Incomplete,
    /// A registered agent is named, but no token was shown.
    #[error("the agent's token is missing")]
    Missing,
    /// The token is not that of the named agent.
    #[error("Invalid agent token")]
    Token,
    /// Who is named as creator is not registered.
    #[error("creator_agent_id must be a registered agent")]
    Creator,
}

impl ChatError {
    /// Whether a strict post failed for a reason that a fresh reply token cures.
    #[must_use]
    pub const fn is_sync(&self) -> bool {
        matches!(
            self,
            Self::MissingSyncFields { .. }
                | Self::TokenInvalid
                | Self::TokenReplay { .. }
                | Self::SeqMismatch { .. }
        )
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::TooMany { .. } => true,
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}
