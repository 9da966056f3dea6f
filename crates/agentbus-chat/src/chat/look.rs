//! Looking: messages, search, and figures for operators.

use std::collections::{HashMap, HashSet};

use crate::model::{
    Agent, Message, Reaction, SearchCursor, SearchOrder, SearchPage, SearchQuery, Thread, Waiting,
};
use crate::store::{Figures, MessageQuery, Promise, Tx, has_no_spaces};
use crate::{AgentId, Chat, ChatError, MessageId, ThreadId, limits};

use super::guidance::system_row;
use super::within;

/// Everything that an operator asks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// What the store counts.
    pub figures: Figures,
    /// Registered agents.
    pub agents: usize,
    /// Those of them whose heartbeat is recent.
    pub agents_online: usize,
    /// Open waits.
    pub waits: usize,
}

impl Chat {
    /// A page of a thread's messages with their reactions, in the order of `seq`; before them, if
    /// asked for, what every agent is told.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn messages(
        &self,
        thread: ThreadId,
        mut query: MessageQuery,
        with_system_row: bool,
    ) -> Result<(Vec<Message>, Vec<Reaction>), ChatError> {
        query.limit = query.limit.clamp(1, limits::MESSAGES_PAGE_MAX);
        self.read(move |core, tx| {
            let found = core.thread(tx, &thread)?;
            let mut messages = tx.messages(&thread, &query)?;
            let ids: Vec<MessageId> = messages.iter().map(|one| one.id.clone()).collect();
            let reactions = tx.reactions(&ids)?;
            if with_system_row && query.after_seq == 0 {
                messages.insert(0, system_row(&found));
            }
            Ok((messages, reactions))
        })
        .await
    }

    /// Finds a message with its reactions.
    ///
    /// # Errors
    /// Fails when there is none.
    pub async fn message(&self, id: MessageId) -> Result<(Message, Vec<Reaction>), ChatError> {
        self.read(move |core, tx| {
            let message = core.message(tx, &id)?;
            Ok((message, tx.reactions(&[id])?))
        })
        .await
    }

    /// The faces that authors of messages chose for themselves, by the ids of these agents.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn faces(&self, messages: &[Message]) -> Result<HashMap<String, String>, ChatError> {
        let authors = messages.iter().filter_map(|one| one.author_id.clone());
        self.faces_of(authors.map(AgentId::from).collect()).await
    }

    /// The faces that agents chose for themselves, by the ids of those that did.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn faces_of(
        &self,
        agents: HashSet<AgentId>,
    ) -> Result<HashMap<String, String>, ChatError> {
        if agents.is_empty() {
            return Ok(HashMap::new());
        }
        self.read(move |_, tx| {
            let mut faces = HashMap::new();
            for id in agents {
                let agent = tx.agent(&id)?;
                if let Some(emoji) = agent.and_then(|agent| agent.emoji) {
                    faces.insert(id.to_string(), emoji);
                }
            }
            Ok(faces)
        })
        .await
    }

    /// Searches messages. A page says where the next one begins; that holds for the same query.
    ///
    /// # Errors
    /// Fails when the query is blank or too long.
    pub async fn search(&self, mut query: SearchQuery) -> Result<SearchPage, ChatError> {
        within("query", query.text.len(), limits::QUERY_BYTES_MAX)?;
        if query.text.trim().is_empty() {
            return Err(ChatError::invalid("query must not be empty"));
        }
        query.limit = query.limit.clamp(1, limits::SEARCH_PAGE_MAX);
        if self.inner.store.index_is_behind() {
            let caught_up = self.write_with(Promise::Stored, |_, tx| Ok(tx.catch_up()?));
            if let Err(error) = caught_up.await {
                // A disk that is full takes nothing from those who only look.
                tracing::warn!(%error, "a search does not find the newest messages");
            }
        }
        self.read(move |_, tx| page_of(tx, query)).await
    }

    /// Who waits, in one thread or in all.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn waiting(&self, thread: Option<ThreadId>) -> Result<Vec<Waiting>, ChatError> {
        self.read(move |_, tx| Ok(tx.waiting(thread.as_ref())?))
            .await
    }

    /// The agents that wait in some threads, each with its thread.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn waiting_agents(
        &self,
        threads: HashSet<ThreadId>,
    ) -> Result<Vec<(ThreadId, Agent)>, ChatError> {
        self.read(move |_, tx| {
            let mut found = Vec::new();
            for wait in tx.waiting(None)? {
                if threads.contains(&wait.thread_id)
                    && let Some(agent) = tx.agent(&wait.agent_id)?
                {
                    found.push((wait.thread_id, agent));
                }
            }
            Ok(found)
        })
        .await
    }

    /// A thread with the number of its messages.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn thread_and_count(&self, id: ThreadId) -> Result<(Thread, usize), ChatError> {
        self.read(move |core, tx| Ok((core.thread(tx, &id)?, tx.count_messages(&id, false)?)))
            .await
    }

    /// Counts everything.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn overview(&self) -> Result<Overview, ChatError> {
        let waits = limits::WAITS_MAX - self.inner.waits.available_permits();
        self.read(move |core, tx| {
            let now = core.now();
            let agents = tx.agents()?;
            let beats = |at| now.since(at) < core.config.heartbeat_timeout;
            let online = agents.iter().filter(|agent| beats(agent.last_heartbeat));
            Ok(Overview {
                figures: tx.figures(now)?,
                agents_online: online.count(),
                agents: agents.len(),
                waits,
            })
        })
        .await
    }

    /// Compares the search index with the messages; a sentence if they differ.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn check_search(&self) -> Result<Option<String>, ChatError> {
        self.write(|_, tx| Ok(tx.check_search()?)).await
    }
}

/// Looks for one more than is shown, to know whether there is another page.
fn page_of(tx: &dyn Tx, mut query: SearchQuery) -> Result<SearchPage, ChatError> {
    let limit = query.limit;
    if query.text.chars().any(has_no_spaces) {
        // Looked for by characters, which no store ranks.
        query.order = SearchOrder::Newest;
    }
    let from = match (query.from, query.order) {
        (Some(from), _) => from,
        // The next page counts from here, so nothing may come in before it.
        (None, SearchOrder::Ranked) => SearchCursor {
            upto: tx.last_seq()?,
            skip: 0,
        },
        (None, SearchOrder::Newest) => SearchCursor::BEGIN,
    };
    query.from = Some(from);
    query.limit = limit + 1;
    let mut page = tx.search(&query)?;
    if page.hits.len() > limit {
        page.hits.truncate(limit);
        let last = page.hits.last().map_or(0, |hit| hit.seq);
        page.next = Some(match query.order {
            SearchOrder::Newest => SearchCursor {
                upto: last - 1,
                skip: 0,
            },
            SearchOrder::Ranked => SearchCursor {
                skip: from.skip + limit,
                ..from
            },
        });
    }
    Ok(page)
}
