//! Posting.
//!
//! A **strict** post says what its author has seen and spends a reply token; it is refused when the
//! thread has moved on. A **relaxed** one takes its place in the order whatever that is, so it
//! never fails for what others do. Either is checked, numbered and stored in one transaction.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::model::is_human_only;
use crate::model::{
    Message, Priority, Role, STOP_REASONS, SyncContext, Thread, ThreadState, TokenSource,
};
use crate::store::Tx;
use crate::{AgentId, AuthProblem, Chat, ChatError, MessageId, Seq, ThreadId, limits, secret};

use super::{Core, ProvenAgent, excerpt, json_within, within};

/// A message before it is posted.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Where to post.
    pub thread_id: ThreadId,
    /// The id of a registered agent, or what a person calls themself.
    pub author: String,
    /// The text.
    pub content: String,
    /// In what role.
    pub role: Role,
    /// How pressing it is.
    pub priority: Priority,
    /// Whatever there is to say about it; an object or nothing.
    pub metadata: Option<Value>,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// How it is kept in step.
    pub sync: Sync,
    /// What proves that the author is who they say.
    pub proof: Proof,
}

/// How a post is kept in step with the others.
#[derive(Debug, Clone)]
pub enum Sync {
    /// It takes its place whatever came before.
    Relaxed,
    /// It is refused unless its author has seen what came before.
    Strict {
        /// The last number that the author has seen.
        expected_last_seq: Option<Seq>,
        /// A token to spend.
        reply_token: Option<String>,
    },
}

/// What proves that an author is the registered agent they name.
#[derive(Clone)]
pub enum Proof {
    /// Nothing; right for those who are not registered.
    Nothing,
    /// The agent's token.
    Token(String),
    /// The gateway knows the agent by its connection.
    Agent(ProvenAgent),
    /// The bus speaks for a live agent, which has no token of its own. No gateway gives this.
    Live(AgentId),
    /// The reply token of a strict post, if it was given to that agent.
    ReplyToken,
}

impl Draft {
    /// A relaxed message without anything special.
    #[must_use]
    pub fn new(thread_id: ThreadId, author: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            thread_id,
            author: author.into(),
            content: content.into(),
            role: Role::User,
            priority: Priority::Normal,
            metadata: None,
            reply_to: None,
            sync: Sync::Relaxed,
            proof: Proof::Nothing,
        }
    }

    /// Adds to the metadata, beside what is there.
    pub fn merge_metadata(&mut self, key: &str, value: Value) {
        let metadata = self
            .metadata
            .get_or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(fields) = metadata {
            fields.insert(key.to_owned(), value);
        }
    }
}

/// A message that is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Posted {
    /// The message.
    pub message: Message,
    /// What the author needs for the next strict post, if this one was strict and the author is
    /// registered.
    pub next: Option<SyncContext>,
}

/// Who writes, as the store will say.
struct Author {
    name: String,
    id: Option<AgentId>,
}

impl Chat {
    /// Posts a message; returns when it is stored.
    ///
    /// # Errors
    /// Fails when the thread takes none, when the message is not allowed, or, if it is strict, when
    /// its author is out of step.
    pub async fn post(&self, draft: Draft) -> Result<Posted, ChatError> {
        self.write(move |core, tx| core.post(tx, draft)).await
    }
}

impl Core {
    pub(super) fn post(&self, tx: &mut dyn Tx, draft: Draft) -> Result<Posted, ChatError> {
        let thread = self.open_for_posts(tx, &draft.thread_id)?;
        check_shape(&draft)?;
        check_parent(tx, &draft)?;
        self.filter("content", &draft.content)?;
        let author = self.author(tx, &draft)?;
        self.check_rate(tx, &author)?;
        let spent = match &draft.sync {
            Sync::Relaxed => None,
            Sync::Strict {
                expected_last_seq,
                reply_token,
            } => Some(self.check_strict(
                tx,
                &thread.id,
                author.id.as_ref(),
                *expected_last_seq,
                reply_token.as_deref(),
            )?),
        };
        let message = self.store_message(tx, draft, &author)?;
        let mut next = None;
        if let Some(token) = spent {
            let was_unspent = tx.consume_token(&token.0, message.created_at)?;
            debug_assert!(was_unspent, "checked in this transaction");
            next = match &author.id {
                // Others that the agent holds stay good: two of its posts may be under way.
                Some(agent) => Some(self.issue(tx, &thread.id, Some(agent), TokenSource::Wait)?),
                None => None,
            };
        }
        Ok(Posted { message, next })
    }

    fn open_for_posts(&self, tx: &dyn Tx, id: &ThreadId) -> Result<Thread, ChatError> {
        let thread = self.thread(tx, id)?;
        if thread.status == ThreadState::Closed && !self.config.allow_posts_in_closed {
            return Err(ChatError::ThreadClosed(thread.id));
        }
        Ok(thread)
    }

    /// Finds out who writes, and refuses those who only say so.
    fn author(&self, tx: &dyn Tx, draft: &Draft) -> Result<Author, ChatError> {
        let id = AgentId::new(draft.author.as_str());
        let Some(agent) = tx.agent(&id)? else {
            if draft.role == Role::System {
                // The bus itself speaks in this role; a stranger could pass for it.
                let text = "role 'system' is not allowed for human messages";
                return Err(ChatError::invalid(text));
            }
            return Ok(Author {
                name: draft.author.clone(),
                id: None,
            });
        };
        let problem = match &draft.proof {
            Proof::Agent(known) if *known.id() == id => {
                (!known.holds(tx)?).then_some(AuthProblem::Token)
            }
            Proof::Live(known) if *known == id => None,
            Proof::Token(offered) => {
                let kept = tx.agent_token(&id)?.unwrap_or_default();
                (!secret::fits(&kept, offered)).then_some(AuthProblem::Token)
            }
            Proof::ReplyToken if is_bound(tx, draft, &id)? => None,
            _ => Some(AuthProblem::Missing),
        };
        match problem {
            Some(problem) => Err(ChatError::Unauthenticated(problem)),
            None => Ok(Author {
                name: agent.name,
                id: Some(id),
            }),
        }
    }

    fn check_rate(&self, tx: &dyn Tx, author: &Author) -> Result<(), ChatError> {
        let limit = self.config.rate_limit;
        if limit == 0 {
            return Ok(());
        }
        let since = self.now().before(limits::RATE_WINDOW);
        let id = author.id.as_ref().map(AgentId::as_str);
        if tx.count_since(&author.name, id, since, limit)? < limit {
            return Ok(());
        }
        Err(ChatError::RateLimited {
            limit,
            window_s: limits::RATE_WINDOW.as_secs(),
        })
    }

    fn store_message(
        &self,
        tx: &mut dyn Tx,
        draft: Draft,
        author: &Author,
    ) -> Result<Message, ChatError> {
        let now = self.now();
        let message = Message {
            id: MessageId::new(self.ambient.uuid_at(now)),
            thread_id: draft.thread_id,
            seq: tx.next_seq()?,
            author: author.name.clone(),
            author_id: author.id.as_ref().map(ToString::to_string),
            author_name: Some(author.name.clone()),
            role: draft.role,
            content: draft.content,
            created_at: now,
            human_only: is_human_only(draft.metadata.as_ref()),
            metadata: draft.metadata,
            priority: draft.priority,
            reply_to: draft.reply_to,
            edited_at: None,
            edit_version: 0,
        };
        self.publish(tx, &message)?;
        if let Some(agent) = &author.id {
            tx.touch_agent(agent, "msg_post", false, message.created_at)?;
            // Having spoken, it does not wait for others any more.
            tx.put_wait_run(&message.thread_id, agent, None)?;
        }
        Ok(message)
    }

    /// Stores a message with its events and its audit entry, and wakes those who wait for it.
    pub(super) fn publish(&self, tx: &mut dyn Tx, message: &Message) -> Result<(), ChatError> {
        tx.insert_message(message)?;
        tx.touch_thread(&message.thread_id, message.created_at)?;
        self.tell(tx, message)?;
        let (thread, id) = (&message.thread_id, message.id.as_str());
        self.audit(tx, &message.author, "message.post", Some(thread), Some(id))?;
        if !message.human_only {
            tx.wake(thread);
        }
        Ok(())
    }

    /// The events of a new message, in the order that readers know.
    fn tell(&self, tx: &mut dyn Tx, message: &Message) -> Result<(), ChatError> {
        let Message { id, thread_id, .. } = message;
        // Events reach agents as well.
        let content = if message.human_only {
            String::new()
        } else {
            excerpt(&message.content)
        };
        let mut new = json!({
            "msg_id": id, "thread_id": thread_id, "author": message.author,
            "author_id": message.author_id, "role": message.role, "seq": message.seq,
            "content": content,
        });
        if message.human_only {
            new["visibility"] = json!("human_only");
        }
        self.emit(tx, "msg.new", Some(thread_id), new)?;
        if let Some(target) = message.meta("handoff_target") {
            let told = json!({ "msg_id": id, "thread_id": thread_id,
                "from_agent": message.author, "to_agent": target });
            self.emit(tx, "msg.handoff", Some(thread_id), told)?;
        }
        if let Some(reason) = message.meta("stop_reason") {
            let told = json!({ "msg_id": id, "thread_id": thread_id,
                "agent": message.author, "reason": reason });
            self.emit(tx, "msg.stop", Some(thread_id), told)?;
        }
        if let Some(parent) = &message.reply_to {
            let told = json!({ "msg_id": id, "reply_to_msg_id": parent, "thread_id": thread_id,
                "author": message.author, "seq": message.seq });
            self.emit(tx, "msg.reply", Some(thread_id), told)?;
        }
        Ok(())
    }
}

/// Whether a strict post comes with a token that was given to this agent.
fn is_bound(tx: &dyn Tx, draft: &Draft, agent: &AgentId) -> Result<bool, ChatError> {
    let Sync::Strict {
        reply_token: Some(token),
        ..
    } = &draft.sync
    else {
        return Ok(false);
    };
    // Anybody can ask for a token in an agent's name; the other two are given to who proved to be it.
    let token = tx
        .token(token)?
        .filter(|token| token.source != TokenSource::Create);
    Ok(token.is_some_and(|token| token.agent_id.as_ref() == Some(agent)))
}

fn check_shape(draft: &Draft) -> Result<(), ChatError> {
    within("content", draft.content.len(), limits::CONTENT_BYTES_MAX)?;
    within("author", draft.author.len(), limits::NAME_BYTES_MAX)?;
    json_within("metadata", draft.metadata.as_ref())?;
    let Some(metadata) = &draft.metadata else {
        return Ok(());
    };
    if !metadata.is_object() {
        return Err(ChatError::invalid("metadata must be an object"));
    }
    match metadata.get("stop_reason") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(reason)) if STOP_REASONS.contains(&reason.as_str()) => Ok(()),
        Some(other) => {
            let shown = other
                .as_str()
                .map_or_else(|| other.to_string(), str::to_owned);
            let known = STOP_REASONS.join(", ");
            Err(ChatError::Invalid(format!(
                "Invalid stop_reason '{shown}'. Must be one of: {known}"
            )))
        }
    }
}

fn check_parent(tx: &dyn Tx, draft: &Draft) -> Result<(), ChatError> {
    let Some(id) = &draft.reply_to else {
        return Ok(());
    };
    match tx.message(id)? {
        None => Err(ChatError::Invalid(format!(
            "reply_to_msg_id '{id}' does not exist."
        ))),
        Some(parent) if parent.thread_id != draft.thread_id => Err(ChatError::Invalid(format!(
            "reply_to_msg_id '{id}' belongs to a different thread."
        ))),
        Some(_) => Ok(()),
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Token(_) => "Token(…)",
            Self::Agent(_) => "Agent(…)",
            Self::Live(_) => "Live(…)",
            Self::ReplyToken => "ReplyToken",
        })
    }
}
