//! What happened in sessions, kept on disk, so that whoever comes back gets exactly the rest.
//!
//! Each entry of a session has an offset, counted from 1 without a hole. One thread writes, in
//! groups; readers have their own connection, and are woken by the commit. A session keeps as much
//! as [`SESSION_BYTES`](crate::limits::SESSION_BYTES), the log as many sessions as
//! [`SESSIONS_KEPT`](crate::limits::SESSIONS_KEPT); the oldest goes first, and a reader who comes
//! too late for it is told.
//!
//! It does not promise that the last moments before a power cut are kept: a transcript is not a
//! receipt, and a sync for each chunk would hold up the agent.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentbus::{ErrorCode, ErrorPayload, Payload};
use parking_lot::Mutex;
use rusqlite::Connection;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::limits::{LOG_BYTES_WAITING, LOG_WAITING};

mod editors;
mod schema;
mod writer;

pub(crate) use editors::EditorSession;

use writer::{Job, NewEntry, Writer};

/// A log of sessions. Cloning gives another handle.
#[derive(Clone)]
pub struct SessionLog(Arc<Shared>);

struct Shared {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    /// Bytes that may wait for the writer, in kibibytes.
    room: Arc<Semaphore>,
    heads: Arc<Heads>,
    /// For reading; taken for one page at a time.
    reader: Arc<Mutex<Connection>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// The last offset of each session that somebody follows.
type Heads = Mutex<HashMap<String, watch::Sender<u64>>>;

/// What an entry tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The session was opened: `opened` and `agent_session`.
    Opened,
    /// A turn begins: its `prompt`, as content blocks.
    Prompt,
    /// The agent said this; it is the `update` of `session/update`.
    Update,
    /// The turn is over: `stop_reason` or `error`.
    Ended,
    /// This many entries could not be written: `count`.
    Lost,
}

/// One entry of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number within the session, from 1.
    pub offset: u64,
    /// What it tells.
    pub kind: Kind,
    /// The JSON of it.
    pub data: String,
}

/// A session that the log knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoggedSession {
    /// What it is followed by: the agent and the session, apart by a colon.
    pub id: String,
    /// The agent.
    pub agent: String,
    /// The session, as callers name it.
    pub session: String,
    /// What the agent calls it.
    pub agent_session: Option<String>,
    /// Milliseconds since 1970 of its first entry.
    pub created_ms: u64,
    /// Milliseconds since 1970 of its last entry.
    pub touched_ms: u64,
    /// Offset of the oldest entry that is kept.
    pub first: u64,
    /// Offset of the last entry.
    pub last: u64,
}

/// Why the log could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database failed.
    #[error("the log of sessions {}: {source}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What the database said.
        source: rusqlite::Error,
    },
    /// The file or its directory cannot be used.
    #[error("the log of sessions {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A newer release has written it.
    #[error("the log of sessions {} was written by a newer release; run that one", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
}

/// The name of a session of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The agent, or another target of the bus.
    pub(crate) agent: String,
    pub(crate) session: String,
}

/// What a follower comes across.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// The next entry.
    Entry(Entry),
    /// Entries up to this offset are not kept any more.
    Gap(u64),
}

/// Reads a session from an offset on, and then what comes.
#[derive(Debug)]
pub struct Follower {
    log: SessionLog,
    id: String,
    after: u64,
    page: VecDeque<Entry>,
    head: watch::Receiver<u64>,
}

impl SessionLog {
    /// Opens the log, or makes it.
    ///
    /// # Errors
    /// When the file cannot be used, or a newer release has written it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LogError> {
        let path = path.into();
        make_directory(&path)?;
        let connection = schema::open(&path)?;
        let reader = schema::open(&path)?;
        let (jobs, waiting) = mpsc::channel(LOG_WAITING);
        let heads = Arc::<Heads>::default();
        let writer = Writer::new(connection, Arc::clone(&heads));
        let failed = |source| LogError::File {
            path: path.clone(),
            source,
        };
        let thread = std::thread::Builder::new().name("session-log".to_owned());
        let thread = thread.spawn(move || writer.run(waiting)).map_err(failed)?;
        Ok(Self(Arc::new(Shared {
            path: path.clone(),
            jobs,
            room: Arc::new(Semaphore::new(LOG_BYTES_WAITING / 1024)),
            heads,
            reader: Arc::new(Mutex::new(reader)),
            writer: Mutex::new(Some(thread)),
        })))
    }

    /// Adds an entry, once there is room for it.
    pub(crate) async fn append(&self, key: impl Into<Arc<Key>>, kind: Kind, data: Payload) {
        self.add(key.into(), kind, data, None).await;
    }

    /// Notes what the agent calls a session.
    pub(crate) async fn opened(&self, key: Key, agent_session: &str, data: Payload) {
        let name = Some(agent_session.to_owned());
        self.add(key.into(), Kind::Opened, data, name).await;
    }

    async fn add(&self, key: Arc<Key>, kind: Kind, data: Payload, agent_session: Option<String>) {
        let entry = NewEntry {
            key,
            kind,
            _room: self.room(data.as_bytes().len()).await,
            data,
            agent_session,
        };
        // Fails when the log is closed, which is after the last turn.
        let _ = self.0.jobs.send(Job::Entry(entry)).await;
    }

    /// Waits until an entry of this size may wait; a small one needs no more room than its place.
    async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kibibytes = u32::try_from(bytes.min(LOG_BYTES_WAITING) / 1024).unwrap_or(u32::MAX);
        if kibibytes == 0 {
            return None;
        }
        let room = Arc::clone(&self.0.room).acquire_many_owned(kibibytes);
        room.await.ok()
    }

    /// Changes something in the file, once every entry before it is written.
    async fn order<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Connection, &Heads) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LogError> {
        let (done, changed) = oneshot::channel();
        let order = move |connection: &mut Connection, heads: &Heads| {
            // Fails when nobody waits for it any more.
            let _ = done.send(change(connection, heads));
        };
        let _ = self.0.jobs.send(Job::Order(Box::new(order))).await;
        // A closed log answers nothing.
        let changed = changed.await;
        let changed = changed.unwrap_or(Err(rusqlite::Error::QueryReturnedNoRows));
        changed.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> LogError {
        LogError::Database {
            path: self.0.path.clone(),
            source,
        }
    }

    /// The last offset of a session when all that was added to it before is written; 0 without one.
    pub(crate) async fn last(&self, key: &Key) -> Result<u64, LogError> {
        let id = key.id();
        let last = move |connection: &mut Connection, _: &Heads| {
            Ok(schema::session(connection, &id)?.map_or(0, |session| session.last))
        };
        self.order(last).await
    }

    /// What the agent called this session when it was last open.
    pub(crate) async fn agent_session(&self, key: &Key) -> Option<String> {
        let id = key.id();
        let found = self
            .read(move |connection| schema::session(connection, &id))
            .await;
        match found {
            Ok(found) => found.and_then(|session| session.agent_session),
            Err(error) => {
                tracing::error!(%error, "a session is taken for a new one");
                None
            }
        }
    }

    /// The sessions, the last used first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn sessions(&self) -> Result<Vec<LoggedSession>, LogError> {
        self.read(schema::sessions).await
    }

    /// Follows a session from after this offset; `None` if there is none of this id.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn follow(&self, id: &str, after: u64) -> Result<Option<Follower>, LogError> {
        // Before the first read, so that no commit falls in between.
        let follower = self.follower(id, after);
        if !self.knows(id).await? {
            drop(follower);
            // Whoever asks for what is not there leaves nothing behind.
            self.0
                .heads
                .lock()
                .retain(|_, head| head.receiver_count() > 0);
            return Ok(None);
        }
        Ok(Some(follower))
    }

    /// Whether there is such a session, also if its first entry waits to be written: whoever has had
    /// a turn can follow it.
    async fn knows(&self, id: &str) -> Result<bool, LogError> {
        let wanted = id.to_owned();
        let read = self.read(move |connection| schema::session(connection, &wanted));
        if read.await?.is_some() {
            return Ok(true);
        }
        let wanted = id.to_owned();
        let waited = self.order(move |connection, _| schema::session(connection, &wanted));
        Ok(waited.await?.is_some())
    }

    /// Follows a session that may only be written later.
    pub(crate) fn follower(&self, id: &str, after: u64) -> Follower {
        let mut heads = self.0.heads.lock();
        let head = heads.entry(id.to_owned());
        let head = head.or_insert_with(|| watch::Sender::new(0)).subscribe();
        Follower {
            log: self.clone(),
            id: id.to_owned(),
            after,
            page: VecDeque::new(),
            head,
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LogError> {
        let reader = Arc::clone(&self.0.reader);
        let done = tokio::task::spawn_blocking(move || read(&reader.lock())).await;
        // A read does not panic, and is never aborted.
        done.unwrap_or(Err(rusqlite::Error::QueryReturnedNoRows))
            .map_err(|source| self.failed(source))
    }

    /// Ends the turns that a process before this one left open when it was killed. For whoever knows
    /// that no other has the log, and before the first turn.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub async fn end_cut_turns(&self) -> Result<(), LogError> {
        let mut error = ErrorPayload::new(
            ErrorCode::AgentUnavailable,
            "the bus ended during this turn, without the time to say so; prompt again to go on",
        );
        error.retryable = true;
        let end = serde_json::json!({ "error": error }).to_string();
        let cut = self
            .order(move |connection, _| writer::end_cut_turns(connection, &end))
            .await?;
        if cut > 0 {
            tracing::warn!(
                turns = cut,
                "the bus was killed during turns, which have ended"
            );
        }
        Ok(())
    }

    /// Writes what waits and closes the file. Nothing can be added afterwards.
    pub async fn close(&self) {
        let Some(thread) = self.0.writer.lock().take() else {
            return;
        };
        let _ = self.0.jobs.send(Job::Last).await;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the log of sessions was not closed in order");
        }
    }
}

impl Follower {
    /// The offset of what was returned last.
    pub(crate) const fn at(&self) -> u64 {
        self.after
    }

    /// The next entry, if it is read already.
    pub fn ready(&mut self) -> Option<Followed> {
        let offset = self.page.front()?.offset;
        if offset > self.after + 1 {
            self.after = offset - 1;
            return Some(Followed::Gap(self.after));
        }
        self.after = offset;
        self.page.pop_front().map(Followed::Entry)
    }

    /// The next entry; waits for it. Cancel safe. `None` when the log is closed.
    ///
    /// # Errors
    /// When the log cannot be read; the follower can be asked again.
    pub async fn next(&mut self) -> Result<Option<Followed>, LogError> {
        loop {
            if let Some(ready) = self.ready() {
                return Ok(Some(ready));
            }
            self.head.mark_unchanged();
            let (id, after) = (self.id.clone(), self.after);
            let page = self
                .log
                .read(move |connection| schema::page(connection, &id, after));
            self.page = page.await?.into();
            if self.page.is_empty() && self.head.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

impl Key {
    pub(crate) fn id(&self) -> String {
        format!("{}:{}", self.agent, self.session)
    }
}

impl Kind {
    /// As it stands in the log and in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Prompt => "prompt",
            Self::Update => "update",
            Self::Ended => "ended",
            Self::Lost => "lost",
        }
    }

    const ALL: [Self; 5] = [
        Self::Opened,
        Self::Prompt,
        Self::Update,
        Self::Ended,
        Self::Lost,
    ];

    /// The number that it is stored as.
    const fn number(self) -> i64 {
        self as i64
    }

    fn of_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl fmt::Debug for SessionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLog")
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}

/// Makes the directory of the file, closed to others: transcripts are nobody else's business.
fn make_directory(path: &Path) -> Result<(), LogError> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|source| LogError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
