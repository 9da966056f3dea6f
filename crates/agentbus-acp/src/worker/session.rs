//! One session: its history, its turns in line, what its user has allowed, its MCP servers.
//!
//! Turns run one after the other in the order of their prompts. Cancelling reaches the one that
//! runs and all that wait at that moment, and nothing that comes later.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::RwLock;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::limits::{PROMPTS_WAITING_MAX, TITLE_CHARS_MAX};
use super::mcp::Servers;
use super::settings::Settings;
use super::store::History;
use crate::sdk::serving;
use crate::sdk::serving::Error;
use crate::sdk::serving::schema::{ContentBlock, ContentChunk, SessionId, SessionUpdate};

/// A session that is open in this process.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Turns read, the end of the session writes.
    pub(super) servers: RwLock<Servers>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    history: History,
    settings: Settings,
    /// Tools that may run without a question, by name.
    allowed: HashSet<String>,
    turns: BTreeMap<u64, CancellationToken>,
    next_turn: u64,
    /// Fires when the last turn in line has ended.
    last: Option<CancellationToken>,
}

/// A place in line; dropping it lets the next one go on.
#[derive(Debug)]
pub(super) struct Place {
    session: Arc<Session>,
    turn: u64,
    before: Option<CancellationToken>,
    pub(super) cancelled: CancellationToken,
    _done: DropGuard,
}

impl Session {
    pub(super) fn new(history: History, settings: Settings, servers: Servers) -> Arc<Self> {
        Arc::new(Self {
            id: history.about.id.clone(),
            servers: RwLock::new(servers),
            state: Mutex::new(State {
                history,
                settings,
                allowed: HashSet::new(),
                turns: BTreeMap::new(),
                next_turn: 0,
                last: None,
            }),
        })
    }

    /// Takes a place in line for a prompt that is cancelled with `withdrawn`, or by itself.
    pub(super) fn line_up(self: &Arc<Self>, withdrawn: &CancellationToken) -> Result<Place, Error> {
        let mut state = self.state.lock();
        if state.turns.len() > PROMPTS_WAITING_MAX {
            let data =
                format!("{PROMPTS_WAITING_MAX} prompts wait already; wait for their answers");
            return Err(serving::refused(data));
        }
        let (cancelled, done) = (withdrawn.child_token(), CancellationToken::new());
        let turn = state.next_turn;
        state.next_turn += 1;
        state.turns.insert(turn, cancelled.clone());
        let before = state.last.replace(done.clone());
        Ok(Place {
            session: Arc::clone(self),
            turn,
            before,
            cancelled,
            _done: done.drop_guard(),
        })
    }

    /// Cancels the turn that runs and those in line.
    pub(super) fn cancel(&self) {
        for cancelled in self.state.lock().turns.values() {
            cancelled.cancel();
        }
    }

    /// Cancels all turns and ends the MCP servers once the last one has let go of them.
    pub(super) async fn close(&self) {
        self.cancel();
        let servers = std::mem::take(&mut *self.servers.write().await);
        servers.close().await;
    }

    /// Writes a prompt down; returns the title if it gave the session one.
    pub(super) fn ask(&self, prompt: &[ContentBlock]) -> io::Result<Option<String>> {
        let mut state = self.state.lock();
        let history = &mut state.history;
        let mut named = None;
        if history.about.title.is_none()
            && let Some(title) = title_of(prompt)
        {
            history.name(title.clone())?;
            named = Some(title);
        }
        for block in prompt {
            let chunk = ContentChunk::new(block.clone());
            history.add(SessionUpdate::UserMessageChunk(chunk))?;
        }
        Ok(named)
    }

    /// Writes an update down.
    pub(super) fn record(&self, update: SessionUpdate) -> io::Result<()> {
        self.state.lock().history.add(update)
    }

    /// Makes what was written survive a loss of power.
    pub(super) async fn sync(&self) -> io::Result<()> {
        let file = self.state.lock().history.file()?;
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        synced.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Returns all updates, as they were sent.
    pub(super) fn updates(&self) -> Vec<SessionUpdate> {
        self.state.lock().history.updates.clone()
    }

    pub(super) fn settings(&self) -> Settings {
        self.state.lock().settings.clone()
    }

    /// Changes the settings; returns what they are now.
    pub(super) fn set(
        &self,
        change: impl FnOnce(&mut Settings) -> Result<(), Error>,
    ) -> Result<Settings, Error> {
        let settings = &mut self.state.lock().settings;
        change(settings)?;
        Ok(settings.clone())
    }

    /// Whether a tool may run without a question.
    pub(super) fn allows(&self, tool: &str) -> bool {
        let state = self.state.lock();
        state.settings.allows_all() || state.allowed.contains(tool)
    }

    /// Lets a tool run from now on without a question.
    pub(super) fn allow(&self, tool: &str) {
        self.state.lock().allowed.insert(tool.to_owned());
    }
}

impl Place {
    /// Waits for the turns in front, or for the cancellation.
    pub(super) async fn reached(&self) {
        if let Some(before) = &self.before {
            tokio::select! {
                () = before.cancelled() => {}
                () = self.cancelled.cancelled() => {}
            }
        }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.session.state.lock().turns.remove(&self.turn);
    }
}

/// Returns the beginning of the first text as a title.
fn title_of(prompt: &[ContentBlock]) -> Option<String> {
    let text = prompt.iter().find_map(|block| match block {
        ContentBlock::Text(text) => text
            .text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty()),
        _ => None,
    })?;
    Some(text.chars().take(TITLE_CHARS_MAX).collect())
}
