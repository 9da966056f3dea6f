//! One session: its history, its turns in line, what its user has allowed, its MCP servers.
//!
//! How turns wait for each other is the [line](crate::line)'s business.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use super::limits::{PROMPTS_WAITING_MAX, TITLE_CHARS_MAX};
use super::mcp::Servers;
use super::settings::Settings;
use super::store::History;
use crate::line::{Line, Place};
use crate::sdk::serving;
use crate::sdk::serving::Error;
use crate::sdk::serving::schema::{ContentBlock, ContentChunk, SessionId, SessionUpdate};

/// A session that is open in this process.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Turns read, the end of the session writes.
    pub(super) servers: RwLock<Servers>,
    turns: Arc<Line>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    history: History,
    settings: Settings,
    /// Tools that may run without a question, by name.
    allowed: HashSet<String>,
}

impl Session {
    pub(super) fn new(history: History, settings: Settings, servers: Servers) -> Arc<Self> {
        Arc::new(Self {
            id: history.about.id.clone(),
            servers: RwLock::new(servers),
            turns: Arc::default(),
            state: Mutex::new(State {
                history,
                settings,
                allowed: HashSet::new(),
            }),
        })
    }

    /// Takes a place in line for a prompt that is cancelled with `withdrawn`, or by itself.
    pub(super) fn line_up(&self, withdrawn: &CancellationToken) -> Result<Place, Error> {
        let place = self.turns.line_up(withdrawn, PROMPTS_WAITING_MAX);
        place.map_err(|_| {
            let data =
                format!("{PROMPTS_WAITING_MAX} prompts wait already; wait for their answers");
            serving::refused(data)
        })
    }

    /// Cancels the turn that runs and those in line.
    pub(super) fn cancel(&self) {
        self.turns.cancel();
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

/// Returns the beginning of the first text as a title.
pub(crate) fn title_of(prompt: &[ContentBlock]) -> Option<String> {
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
