//! Takes over the conversations of an AgentChatBus database.
//!
//! The file is not touched: a copy of it is brought to our layout and read like any other store.
//! What is here already is left as it is, so that an import can be repeated; numbers, ids and times
//! stay what they were. Unspent reply tokens, waits and events are not taken over: they belong to
//! connections that are gone.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::tx::SqliteTx;
use super::{connection, migrate};
use crate::model::{Message, Thread, ThreadQuery};
use crate::store::{
    AgentRows, MessageQuery, MessageRows, Promise, Store, StoreError, TemplateRows, ThreadRows, Tx,
    perform,
};
use crate::{ChatError, limits};

/// What an import has taken over, and what was there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// New threads.
    pub threads: usize,
    /// New messages.
    pub messages: usize,
    /// New agents.
    pub agents: usize,
    /// New templates.
    pub templates: usize,
    /// Messages that were there already.
    pub known: usize,
}

/// Refuses a file that is no database of AgentChatBus, without a look at what is in it.
pub(crate) async fn check(file: &Path) -> Result<(), ChatError> {
    let file = file.to_owned();
    let checking = tokio::task::spawn_blocking(move || {
        let reached = open(&file).and_then(|old| migrate::reached(&old, &file));
        reached.map_err(|error| foreign(error, &file))
    });
    let checked = checking.await;
    checked.map_err(|gone| StoreError::Failed(gone.to_string()))??;
    Ok(())
}

/// Imports a file into a store, telling its progress as messages done and messages in all.
pub(crate) async fn import(
    store: &dyn Store,
    file: &Path,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Imported, ChatError> {
    let file = file.to_owned();
    let opening = tokio::task::spawn_blocking(move || Source::open(&file)).await;
    let source = opening.map_err(|gone| StoreError::Failed(gone.to_string()))??;
    let mut done = Imported::default();
    source.agents(store, &mut done).await?;
    let threads = source.threads()?;
    let total = source.count()?;
    for thread in threads {
        source
            .thread(store, thread, &mut done, total, progress)
            .await?;
    }
    Ok(done)
}

/// A copy of the file in our layout; gone with this.
struct Source {
    connection: parking_lot::Mutex<Connection>,
}

/// Opens the file itself, which is not written to.
fn open(file: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(file, flags).map_err(|error| StoreError::Open {
        path: file.to_owned(),
        reason: error.to_string(),
    })
}

/// What cannot be read of a file that was named is no database of AgentChatBus.
fn foreign(error: StoreError, file: &Path) -> StoreError {
    match error {
        StoreError::Damaged { reason } => StoreError::Foreign {
            path: file.to_owned(),
            reason,
        },
        other => other,
    }
}

impl Source {
    fn open(file: &Path) -> Result<Self, StoreError> {
        let old = open(file)?;
        let mut copy = connection::passing()?;
        copy_all(&old, &mut copy).map_err(|error| foreign(error, file))?;
        migrate::up(&mut copy, file)?;
        Ok(Self {
            connection: parking_lot::Mutex::new(copy),
        })
    }

    fn read<T>(
        &self,
        job: impl FnOnce(&SqliteTx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        job(&SqliteTx::new(&self.connection.lock()))
    }

    fn threads(&self) -> Result<Vec<Thread>, StoreError> {
        self.read(|tx| {
            tx.threads(&ThreadQuery {
                include_archived: true,
                ..ThreadQuery::default()
            })
        })
    }

    fn count(&self) -> Result<usize, StoreError> {
        self.read(|tx| {
            Ok(super::tx::count(
                tx.value("SELECT count(*) FROM messages", [])?,
            ))
        })
    }

    async fn agents(&self, store: &dyn Store, done: &mut Imported) -> Result<(), ChatError> {
        let (agents, templates) = self.read(|tx| {
            let with_token = |agent: crate::model::Agent| {
                let token = tx.agent_token(&agent.id)?.unwrap_or_default();
                Ok::<_, StoreError>((agent, token))
            };
            let agents = tx.agents()?.into_iter().map(with_token);
            Ok((agents.collect::<Result<Vec<_>, _>>()?, tx.templates()?))
        })?;
        let (new_agents, new_templates) = perform(store, Promise::Stored, move |tx| {
            let mut counts = (0, 0);
            for (agent, token) in &agents {
                if tx.agent(&agent.id)?.is_none() {
                    tx.insert_agent(agent, token)?;
                    counts.0 += 1;
                }
            }
            for template in &templates {
                counts.1 += usize::from(tx.insert_template(template)?);
            }
            Ok(counts)
        })
        .await?;
        done.agents += new_agents;
        done.templates += new_templates;
        Ok(())
    }

    async fn thread(
        &self,
        store: &dyn Store,
        thread: Thread,
        done: &mut Imported,
        total: usize,
        progress: &mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<(), ChatError> {
        let id = thread.id.clone();
        let settings = self.read(|tx| tx.settings(&id))?;
        let new = perform(store, Promise::Stored, move |tx| {
            let new = put_thread(tx, thread)?;
            if let Some(settings) = settings.filter(|_| new) {
                tx.put_settings(&settings)?;
            }
            Ok(new)
        })
        .await?;
        done.threads += usize::from(new);
        let mut after_seq = 0;
        loop {
            let page = self.read(|tx| Page::after(tx, &id, after_seq))?;
            let Some(last) = page.messages.last() else {
                return Ok(());
            };
            after_seq = last.seq;
            let size = page.messages.len();
            let new = perform(store, Promise::Stored, move |tx| page.put(tx)).await?;
            done.messages += new;
            done.known += size - new;
            progress(done.messages + done.known, total);
        }
    }
}

/// Stores a thread unless it is here; whether it was stored. A topic that is taken gets an addition.
fn put_thread(tx: &mut dyn Tx, mut thread: Thread) -> Result<bool, ChatError> {
    if tx.thread(&thread.id)?.is_some() {
        return Ok(false);
    }
    if tx.thread_by_topic(&thread.topic)?.is_some() {
        thread.topic = format!("{} (imported {})", thread.topic, thread.id);
    }
    tx.insert_thread(&thread)?;
    Ok(true)
}

/// Some messages of a thread with all that belongs to them.
struct Page {
    messages: Vec<Message>,
    reactions: Vec<crate::model::Reaction>,
    edits: Vec<(crate::MessageId, Vec<crate::model::Edit>)>,
}

impl Page {
    fn after(
        tx: &SqliteTx<'_>,
        thread: &crate::ThreadId,
        after_seq: crate::Seq,
    ) -> Result<Self, StoreError> {
        let query = MessageQuery {
            after_seq,
            limit: limits::IMPORT_BATCH,
            ..MessageQuery::default()
        };
        let messages = tx.messages(thread, &query)?;
        let ids: Vec<_> = messages.iter().map(|message| message.id.clone()).collect();
        let edited = messages.iter().filter(|message| message.edit_version > 0);
        let edits = edited.map(|message| Ok((message.id.clone(), tx.edits(&message.id)?)));
        Ok(Self {
            edits: edits.collect::<Result<_, StoreError>>()?,
            reactions: tx.reactions(&ids)?,
            messages,
        })
    }

    /// Stores what is not here yet; how many messages that were.
    fn put(&self, tx: &mut dyn Tx) -> Result<usize, ChatError> {
        let mut new = std::collections::HashSet::new();
        for message in &self.messages {
            if tx.message(&message.id)?.is_some() {
                continue;
            }
            tx.raise_seq(message.seq)?;
            tx.insert_message(message)
                .map_err(|error| collision(message, error))?;
            new.insert(&message.id);
        }
        for reaction in self
            .reactions
            .iter()
            .filter(|one| new.contains(&one.message_id))
        {
            tx.insert_reaction(reaction)?;
        }
        for (message, edits) in self.edits.iter().filter(|(id, _)| new.contains(id)) {
            for edit in edits {
                let id = format!("{message}-{}", edit.version);
                tx.insert_edit(&id, message, edit)?;
            }
        }
        Ok(new.len())
    }
}

fn collision(message: &Message, error: StoreError) -> StoreError {
    match error {
        StoreError::Failed(reason) if reason.contains("UNIQUE") => StoreError::Collision(format!(
            "message number {} of the file is taken by another message here",
            message.seq
        )),
        other => other,
    }
}

/// Copies a database as it is, also while another process writes to it.
fn copy_all(old: &Connection, copy: &mut Connection) -> Result<(), StoreError> {
    let backup = rusqlite::backup::Backup::new(old, copy)?;
    Ok(backup.run_to_completion(COPIED_PAGES, Duration::ZERO, None)?)
}

/// Pages that are copied before other processes get their turn.
const COPIED_PAGES: i32 = 1024;
