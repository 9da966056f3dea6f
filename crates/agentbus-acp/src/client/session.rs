//! Sessions of an agent, by the names that callers have for them.
//!
//! One turn at a time: whoever holds a session's slot has the turn, the others wait in line, and
//! the line has an end.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentbus::Payload;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::company::Serves;
use crate::sdk::prompt::Meta;

/// All sessions of one agent.
#[derive(Debug)]
pub(super) struct Sessions {
    known: Mutex<HashMap<String, Arc<Session>>>,
    max: usize,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    /// Empty for the session of a prompt that names none; it ends with its only turn.
    pub(super) name: String,
    slot: Arc<tokio::sync::Mutex<Slot>>,
    waiting: AtomicUsize,
    used: Mutex<Instant>,
    setup: Mutex<Setup>,
    /// What may be set on it and how it is set; those who show it share it.
    pub(super) offer: Arc<Mutex<Offer>>,
    /// Where it is open, for those who do not have its turn.
    pub(super) open: Mutex<Option<At>>,
}

/// Where a session is to work and with what, when an editor opened it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    /// The agent's own directory without it.
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) directories: Vec<PathBuf>,
    /// MCP servers as the protocol writes them.
    pub(crate) servers: Vec<Value>,
    /// What the editor added for the agent.
    pub(crate) meta: Option<Meta>,
    /// What the editor serves.
    pub(crate) serves: Serves,
}

/// What may be set on a session, in the protocol's own JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Offer {
    pub(crate) modes: Option<Value>,
    pub(crate) options: Option<Vec<Value>>,
    /// What the agent added for the editor.
    pub(crate) meta: Option<Meta>,
    /// Names of the MCP servers that the agent does not take.
    pub(crate) left_out: Vec<String>,
}

/// The updates that change an [`Offer`]; the rest is not looked at.
#[derive(Deserialize)]
#[serde(tag = "sessionUpdate", rename_all = "snake_case")]
enum Change {
    CurrentModeUpdate {
        #[serde(rename = "currentModeId")]
        mode: String,
    },
    ConfigOptionUpdate {
        #[serde(rename = "configOptions")]
        options: Vec<Value>,
    },
    #[serde(other)]
    Other,
}

/// What the holder of a session's turn may change.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// What the agent calls it, and in which process; `None` before it was opened.
    pub(super) at: Option<At>,
    /// Whether the log was asked for what the session was before this process.
    pub(super) looked: bool,
}

/// A session in a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub(super) id: String,
    pub(super) epoch: u64,
}

/// All sessions are at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AllBusy;

/// As many turns wait in the session as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull;

impl Sessions {
    pub(super) fn new(max: usize) -> Self {
        Self {
            known: Mutex::default(),
            max,
        }
    }

    /// Finds a session, or makes one. The second is the session that had to go for it.
    pub(super) fn get(&self, name: &str) -> Result<(Arc<Session>, Option<At>), AllBusy> {
        if name.is_empty() {
            return Ok((Arc::new(Session::new(String::new())), None));
        }
        let mut known = self.known.lock();
        if let Some(session) = known.get(name) {
            return Ok((Arc::clone(session), None));
        }
        let gone = match known.len() < self.max {
            true => None,
            false => Self::longest_idle(&mut known)?,
        };
        let session = Arc::new(Session::new(name.to_owned()));
        known.insert(name.to_owned(), Arc::clone(&session));
        Ok((session, gone))
    }

    /// Forgets a session unless it is at work, and returns what the agent calls it.
    pub(super) fn forget(&self, name: &str) -> Result<Option<At>, AllBusy> {
        let mut known = self.known.lock();
        let Some(session) = known.get(name) else {
            return Ok(None);
        };
        let at = session.idle().ok_or(AllBusy)?;
        known.remove(name);
        Ok(at)
    }

    fn longest_idle(known: &mut HashMap<String, Arc<Session>>) -> Result<Option<At>, AllBusy> {
        let idle = known.values().filter(|session| session.idle().is_some());
        let oldest = idle.min_by_key(|session| *session.used.lock());
        let name = oldest.map(|session| session.name.clone()).ok_or(AllBusy)?;
        Ok(known.remove(&name).and_then(|session| session.idle()?))
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.known.lock().keys().cloned().collect();
        names.sort();
        names
    }
}

impl Session {
    fn new(name: String) -> Self {
        Self {
            name,
            slot: Arc::default(),
            waiting: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            setup: Mutex::default(),
            offer: Arc::default(),
            open: Mutex::default(),
        }
    }

    pub(super) fn set_up(&self, setup: Setup) {
        *self.setup.lock() = setup;
    }

    pub(super) fn setup(&self) -> Setup {
        self.setup.lock().clone()
    }

    /// Takes the turn if nobody has it or waits for it.
    pub(super) fn free_turn(&self) -> Option<OwnedMutexGuard<Slot>> {
        *self.used.lock() = Instant::now();
        Arc::clone(&self.slot).try_lock_owned().ok()
    }

    /// Waits until nobody has the turn.
    pub(super) async fn settled(&self) {
        drop(self.slot.lock().await);
    }

    /// Waits for the turn, in line behind at most `queue` others.
    pub(super) async fn turn(&self, queue: usize) -> Result<OwnedMutexGuard<Slot>, QueueFull> {
        *self.used.lock() = Instant::now();
        if let Ok(slot) = Arc::clone(&self.slot).try_lock_owned() {
            return Ok(slot);
        }
        let _place = Place::take(&self.waiting, queue).ok_or(QueueFull)?;
        Ok(Arc::clone(&self.slot).lock_owned().await)
    }

    /// What the agent calls it, if nobody has the turn or waits for it.
    #[expect(clippy::option_option, reason = "an idle session may not be open yet")]
    fn idle(&self) -> Option<Option<At>> {
        let slot = self.slot.try_lock().ok()?;
        (self.waiting.load(Ordering::Acquire) == 0).then(|| slot.at.clone())
    }
}

impl Offer {
    pub(super) fn set_mode(&mut self, mode: &str) {
        if let Some(modes) = &mut self.modes {
            modes["currentModeId"] = mode.into();
        }
    }

    /// Follows what the agent says of its modes and options.
    pub(super) fn hear(&mut self, update: &Payload) {
        // Long updates are chunks and tool calls; these two are looked for by their names first.
        let text = update.as_str();
        if !text.contains("current_mode_update") && !text.contains("config_option_update") {
            return;
        }
        match serde_json::from_str(text) {
            Ok(Change::CurrentModeUpdate { mode }) => self.set_mode(&mode),
            Ok(Change::ConfigOptionUpdate { options }) => self.options = Some(options),
            Ok(Change::Other) | Err(_) => {}
        }
    }
}

/// A place in a line; left when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let one_more = |now: usize| (now < max).then_some(now + 1);
        let taken = waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        // A place that was not taken must not be left.
        taken.is_ok().then(|| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_has_an_end_and_who_leaves_it_makes_room() {
        let (session, _) = Sessions::new(1).get("s").unwrap();
        let first = session.turn(1).await.unwrap();
        let mut second = Box::pin(session.turn(1));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(session.turn(1).await.err(), Some(QueueFull));
        drop(second);
        let mut third = Box::pin(session.turn(1));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(first);
        assert!(third.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_session_makes_room_and_a_busy_one_never() {
        let sessions = Sessions::new(2);
        for name in ["a", "b"] {
            let (session, _) = sessions.get(name).unwrap();
            let at = At {
                id: format!("agent-{name}"),
                epoch: 1,
            };
            session.turn(1).await.unwrap().at = Some(at);
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        let (c, gone) = sessions.get("c").unwrap();
        assert_eq!(gone.unwrap().id, "agent-a");
        assert_eq!(sessions.names(), ["b", "c"]);
        let b = sessions.get("b").unwrap().0;
        let busy = (b.turn(1).await.unwrap(), c.turn(1).await.unwrap());
        assert_eq!(sessions.get("d").err(), Some(AllBusy));
        assert_eq!(sessions.forget("b"), Err(AllBusy));
        drop(busy);
        assert_eq!(sessions.forget("b").unwrap().unwrap().id, "agent-b");
        assert!(sessions.get("").unwrap().0.name.is_empty());
        assert_eq!(sessions.names(), ["c"]);
    }
}
