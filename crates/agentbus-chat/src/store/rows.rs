//! The rows of a store, topic by topic. Reading needs `&self`, changing needs `&mut self`, so a
//! reader's transaction cannot change anything.

use crate::model::{
    Agent, AuditEntry, Edit, Event, Message, NewEvent, Reaction, SearchPage, SearchQuery, Template,
    Thread, ThreadQuery, ThreadSettings, Token, TokenSource, Waiting,
};
use crate::store::{Figures, StoreError};
use crate::{AgentId, EventId, MessageId, Seq, Stamp, TemplateId, ThreadId};

type Result<T> = std::result::Result<T, StoreError>;

/// A transaction.
pub trait Tx:
    ThreadRows
    + MessageRows
    + AgentRows
    + SyncRows
    + TemplateRows
    + EventRows
    + SearchRows
    + OutcomeRows
{
}

/// Threads and their settings.
pub trait ThreadRows {
    /// Finds a thread.
    fn thread(&self, id: &ThreadId) -> Result<Option<Thread>>;
    /// Finds a thread by its topic.
    fn thread_by_topic(&self, topic: &str) -> Result<Option<Thread>>;
    /// Lists threads, the newest first.
    fn threads(&self, query: &ThreadQuery) -> Result<Vec<Thread>>;
    /// Counts the threads that a query would list without cursor and limit.
    fn count_threads(&self, query: &ThreadQuery) -> Result<usize>;
    /// Threads in discussion whose last message, or creation, is older than this, with that time.
    fn silent_threads(&self, cutoff: Stamp) -> Result<Vec<(Thread, Stamp)>>;
    /// Stores a new thread.
    fn insert_thread(&mut self, thread: &Thread) -> Result<()>;
    /// Stores the state of a thread that exists.
    fn update_thread(&mut self, thread: &Thread) -> Result<()>;
    /// Marks a thread as used now, in the thread and in its settings.
    fn touch_thread(&mut self, id: &ThreadId, now: Stamp) -> Result<()>;
    /// Removes a thread with all that belongs to it; how many messages that were.
    fn delete_thread(&mut self, id: &ThreadId) -> Result<usize>;
    /// The settings of a thread.
    fn settings(&self, id: &ThreadId) -> Result<Option<ThreadSettings>>;
    /// Stores the settings of a thread.
    fn put_settings(&mut self, settings: &ThreadSettings) -> Result<()>;
}

/// Which messages of a thread to list, always in the order of `seq`.
#[derive(Debug, Clone, Default)]
pub struct MessageQuery {
    /// Only messages after this.
    pub after_seq: Seq,
    /// Only messages before this.
    pub before_seq: Option<Seq>,
    /// Only of this priority.
    pub priority: Option<String>,
    /// Only in this role.
    pub role: Option<String>,
    /// Whether messages for people only are left out.
    pub for_agents: bool,
    /// Whether the limit keeps the newest instead of the oldest.
    pub newest: bool,
    /// At most so many.
    pub limit: usize,
}

/// Messages, their edits and reactions.
pub trait MessageRows {
    /// The number of the last message on the bus; 0 without one.
    fn last_seq(&self) -> Result<Seq>;
    /// The number of the last message of a thread that agents may see; 0 without one.
    fn current_seq(&self, thread: &ThreadId) -> Result<Seq>;
    /// Finds a message.
    fn message(&self, id: &MessageId) -> Result<Option<Message>>;
    /// Lists messages of a thread.
    fn messages(&self, thread: &ThreadId, query: &MessageQuery) -> Result<Vec<Message>>;
    /// The newest messages in the voice of the bus that people alone may read, over all threads, in
    /// the order of `seq`.
    fn newest_for_people(&self, limit: usize) -> Result<Vec<Message>>;
    /// How many messages a thread has, by whether people alone may read them.
    fn count_messages(&self, thread: &ThreadId, for_agents: bool) -> Result<usize>;
    /// How many messages of a thread stand before a number, those for people only among them.
    fn count_before(&self, thread: &ThreadId, seq: Seq) -> Result<usize>;
    /// How many messages an author has written since then, counted up to a limit.
    fn count_since(&self, author: &str, id: Option<&str>, since: Stamp, limit: u32) -> Result<u32>;
    /// Agents who have written in a thread.
    fn participants(&self, thread: &ThreadId) -> Result<Vec<AgentId>>;
    /// Takes the next number. Undone with the job, so that no number is lost.
    fn next_seq(&mut self) -> Result<Seq>;
    /// Makes sure that numbers up to this are never given out.
    fn raise_seq(&mut self, to: Seq) -> Result<()>;
    /// Stores a new message.
    fn insert_message(&mut self, message: &Message) -> Result<()>;
    /// Stores the edited text, or the changed metadata, of a message.
    fn update_message(&mut self, message: &Message) -> Result<()>;
    /// The earlier texts of a message.
    fn edits(&self, message: &MessageId) -> Result<Vec<Edit>>;
    /// Stores an earlier text, under an id of its own.
    fn insert_edit(&mut self, id: &str, message: &MessageId, edit: &Edit) -> Result<()>;
    /// The reactions to some messages, in the order in which they came.
    fn reactions(&self, messages: &[MessageId]) -> Result<Vec<Reaction>>;
    /// Stores a reaction.
    fn insert_reaction(&mut self, reaction: &Reaction) -> Result<()>;
    /// Removes a reaction; whether there was one.
    fn delete_reaction(&mut self, message: &MessageId, agent: &str, label: &str) -> Result<bool>;
    /// Counts everything for operators.
    fn figures(&self, now: Stamp) -> Result<Figures>;
}

/// The registry of agents.
pub trait AgentRows {
    /// Finds an agent.
    fn agent(&self, id: &AgentId) -> Result<Option<Agent>>;
    /// The kept form of an agent's token.
    fn agent_token(&self, id: &AgentId) -> Result<Option<String>>;
    /// All agents, in the order in which they registered.
    fn agents(&self) -> Result<Vec<Agent>>;
    /// The names that begin like this.
    fn names_like(&self, start: &str) -> Result<Vec<String>>;
    /// How many agents there are.
    fn count_agents(&self) -> Result<usize>;
    /// Stores a new agent with the kept form of its token.
    fn insert_agent(&mut self, agent: &Agent, token: &str) -> Result<()>;
    /// Stores the state of an agent that exists.
    fn update_agent(&mut self, agent: &Agent) -> Result<()>;
    /// Notes what an agent did, and whether that counts as a heartbeat.
    fn touch_agent(&mut self, id: &AgentId, what: &str, beat: bool, now: Stamp) -> Result<()>;
    /// Stores the kept form of a new token.
    fn set_agent_token(&mut self, id: &AgentId, token: &str) -> Result<()>;
    /// Removes an agent; whether there was one.
    fn delete_agent(&mut self, id: &AgentId) -> Result<bool>;
}

/// Waits of an agent in a thread that follow each other closely, and so count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitRun {
    /// When the first of them began.
    pub since: Stamp,
    /// When the last of them ended; `None` while it lasts.
    pub left_at: Option<Stamp>,
}

/// Reply tokens, waits, and who has to look again.
pub trait SyncRows {
    /// Finds a reply token.
    fn token(&self, token: &str) -> Result<Option<Token>>;
    /// The unspent reply tokens of an agent in a thread, the newest first.
    fn issued_tokens(&self, thread: &ThreadId, agent: &AgentId) -> Result<Vec<String>>;
    /// Stores a new reply token.
    fn insert_token(&mut self, token: &Token) -> Result<()>;
    /// Spends a reply token; whether it was unspent.
    fn consume_token(&mut self, token: &str, at: Stamp) -> Result<bool>;
    /// Withdraws all unspent reply tokens of an agent in a thread, or those of one source.
    fn withdraw_tokens(
        &mut self,
        thread: &ThreadId,
        agent: &AgentId,
        source: Option<TokenSource>,
        at: Stamp,
    ) -> Result<()>;
    /// Removes all unspent reply tokens of an agent, in every thread.
    fn delete_tokens_of(&mut self, agent: &AgentId) -> Result<()>;
    /// Whether an agent's next wait must answer at once.
    fn refresh_requested(&self, thread: &ThreadId, agent: &AgentId) -> Result<bool>;
    /// Makes an agent's next wait answer at once.
    fn request_refresh(
        &mut self,
        thread: &ThreadId,
        agent: &AgentId,
        reason: &str,
        at: Stamp,
    ) -> Result<()>;
    /// Lets an agent's next wait wait again.
    fn clear_refresh(&mut self, thread: &ThreadId, agent: &AgentId) -> Result<()>;
    /// Who waits in a thread, or in all.
    fn waiting(&self, thread: Option<&ThreadId>) -> Result<Vec<Waiting>>;
    /// Whether an agent waits in a thread.
    fn is_waiting(&self, thread: &ThreadId, agent: &AgentId) -> Result<bool>;
    /// Notes that an agent waits.
    fn put_waiting(&mut self, waiting: &Waiting, now: Stamp) -> Result<()>;
    /// Notes that an agent waits no more.
    fn remove_waiting(&mut self, thread: &ThreadId, agent: &AgentId) -> Result<()>;
    /// Notes that an agent waits nowhere; where it did.
    fn remove_waits_of(&mut self, agent: &AgentId) -> Result<Vec<ThreadId>>;
    /// Notes that nobody waits: those who did are gone with the process that served them.
    fn remove_all_waits(&mut self) -> Result<()>;
    /// The run of waits that an agent is in.
    fn wait_run(&self, thread: &ThreadId, agent: &AgentId) -> Result<Option<WaitRun>>;
    /// Stores the run, or ends it.
    fn put_wait_run(
        &mut self,
        thread: &ThreadId,
        agent: &AgentId,
        run: Option<WaitRun>,
    ) -> Result<()>;
}

/// Templates of threads.
pub trait TemplateRows {
    /// Finds a template.
    fn template(&self, id: &TemplateId) -> Result<Option<Template>>;
    /// All templates: those that come with the bus first, then by name.
    fn templates(&self) -> Result<Vec<Template>>;
    /// Stores a template unless there is one of this id; whether it was stored.
    fn insert_template(&mut self, template: &Template) -> Result<bool>;
    /// Removes a template.
    fn delete_template(&mut self, id: &TemplateId) -> Result<()>;
}

/// Events and the audit.
pub trait EventRows {
    /// Stores an event; its number.
    fn append_event(&mut self, event: NewEvent, now: Stamp) -> Result<EventId>;
    /// Events after a number, of one thread or of all.
    fn events_after(
        &self,
        after: EventId,
        thread: Option<&ThreadId>,
        limit: usize,
    ) -> Result<Vec<Event>>;
    /// The numbers of the oldest and the newest event that are kept; the newest is right even when
    /// none is kept.
    fn event_range(&self) -> Result<(EventId, EventId)>;
    /// Removes events older than this, at most so many; how many that were.
    fn prune_events(&mut self, before: Stamp, limit: usize) -> Result<usize>;
    /// Wakes those who wait in a thread.
    fn wake(&mut self, thread: &ThreadId);
    /// Adds to the audit.
    fn audit(&mut self, entry: &AuditEntry) -> Result<()>;
    /// How many entries the audit has for an action on a subject.
    fn count_audit(&self, action: &str, subject: &str) -> Result<usize>;
}

/// Search.
pub trait SearchRows {
    /// Brings the index up to date.
    fn catch_up(&mut self) -> Result<()>;
    /// Finds messages that the index holds.
    fn search(&self, query: &SearchQuery) -> Result<SearchPage>;
    /// Compares the index with the messages; a sentence if they differ.
    fn check_search(&self) -> Result<Option<String>>;
}

/// Outcomes of writes, for repeated idempotency keys.
pub trait OutcomeRows {
    /// The fingerprint of the request and its outcome.
    fn outcome(&self, key: &str) -> Result<Option<(String, String)>>;
    /// Keeps an outcome.
    fn put_outcome(&mut self, key: &str, fingerprint: &str, json: &str, at: Stamp) -> Result<()>;
    /// Forgets outcomes older than this.
    fn prune_outcomes(&mut self, before: Stamp) -> Result<usize>;
}
