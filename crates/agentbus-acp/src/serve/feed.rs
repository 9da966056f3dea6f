//! Tells an editor what is in the log of a session, and what comes.

use std::collections::HashSet;
use std::sync::Arc;

use agentbus::ErrorPayload;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::choice::Choice;
use super::listener::Listener;
use crate::log::{EditorSession, Entry, Followed, Follower, Kind};
use crate::sdk::serving::Error;

/// What is told when an agent has forgotten a session.
const LOST: &str = "the agent was started again and could not take this session up: it remembers \
    nothing of what was said before";

/// Marks of the turns that an editor began: it knows what it said itself.
pub(super) type Own = Arc<Mutex<HashSet<String>>>;

/// What tells one editor of one session.
pub(super) struct Feed {
    follower: Follower,
    listener: Listener,
    choice: Choice,
    /// Who serves the session.
    agent: String,
    own: Own,
    /// Whether something was said already.
    begun: bool,
    /// Whether something was said up to where the editor was told.
    said: bool,
    /// Whether the editor itself waits for the end of the turn.
    answered: bool,
    /// The offset up to which the editor was told.
    told: watch::Sender<u64>,
}

#[derive(Deserialize)]
struct Prompted<'a> {
    #[serde(borrow)]
    prompt: Vec<&'a RawValue>,
    turn: Option<String>,
}

#[derive(Deserialize)]
struct Opened<'a> {
    opened: &'a str,
}

#[derive(Deserialize)]
struct Ended {
    error: Option<ErrorPayload>,
}

impl Feed {
    /// Begins after this offset.
    pub(super) fn new(
        session: &EditorSession,
        follower: Follower,
        listener: Listener,
        choice: Choice,
        own: Own,
    ) -> (Self, watch::Receiver<u64>) {
        let (told, progress) = watch::channel(follower.at());
        let begun = session.title.is_some();
        let feed = Self {
            said: begun && follower.at() > 0,
            follower,
            listener,
            choice,
            agent: session.key.agent.clone(),
            own,
            begun,
            answered: false,
            told,
        };
        (feed, progress)
    }

    /// Tells everything up to this offset. Returns how many entries are not kept any more.
    pub(super) async fn catch_up(&mut self, last: u64) -> Result<u64, Error> {
        let mut forgotten = 0;
        while self.follower.at() < last {
            match self.follower.next().await {
                Ok(Some(Followed::Entry(entry))) => self.tell(&entry).await?,
                Ok(Some(Followed::Gap(up_to))) => forgotten = up_to,
                Ok(None) => break,
                Err(error) => return Err(super::refusal::of_log(&error)),
            }
        }
        Ok(forgotten)
    }

    /// Tells what comes, until the editor leaves or the session is forgotten.
    pub(super) async fn run(mut self) {
        loop {
            match self.follower.next().await {
                Ok(Some(Followed::Entry(entry))) => {
                    if self.tell(&entry).await.is_err() {
                        return;
                    }
                }
                Ok(Some(Followed::Gap(_))) => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, session = %self.listener.id, "an editor is not told of a session any more");
                    return;
                }
            }
        }
    }

    async fn tell(&mut self, entry: &Entry) -> Result<(), Error> {
        match entry.kind {
            Kind::Prompt => self.repeat_prompt(&entry.data).await?,
            Kind::Update => {
                let complete = self.choice.complete(&entry.data, &self.agent, self.begun);
                let update = complete.as_deref().unwrap_or(&entry.data);
                self.listener.update(update).await?;
            }
            Kind::Opened => self.tell_lost(&entry.data).await?,
            Kind::Ended => self.tell_failed(&entry.data).await?,
            Kind::Lost => {}
        }
        self.told.send_replace(entry.offset);
        Ok(())
    }

    /// Says that the agent has forgotten what was said, if it had heard anything.
    async fn tell_lost(&self, data: &str) -> Result<(), Error> {
        let opened = serde_json::from_str::<Opened<'_>>(data);
        match opened.is_ok_and(|it| it.opened == "lost") && self.said {
            true => self.listener.notice(LOST).await,
            false => Ok(()),
        }
    }

    /// Says how a turn failed; nothing in the protocol tells it to whoever has not asked. The editor
    /// that waits for its end has an answer.
    async fn tell_failed(&self, data: &str) -> Result<(), Error> {
        match serde_json::from_str::<Ended>(data)
            .ok()
            .and_then(|it| it.error)
        {
            Some(error) if !self.answered => {
                let sentence = format!("this turn failed: {}", error.message);
                self.listener.notice(&sentence).await
            }
            _ => Ok(()),
        }
    }

    /// Says what was said to the agent, unless this editor said it.
    async fn repeat_prompt(&mut self, data: &str) -> Result<(), Error> {
        (self.begun, self.said) = (true, true);
        // Written by the bus; what cannot be read is from another release.
        let Ok(said) = serde_json::from_str::<Prompted<'_>>(data) else {
            return Ok(());
        };
        self.answered = said.turn.is_some_and(|turn| self.own.lock().remove(&turn));
        if self.answered {
            return Ok(());
        }
        for block in said.prompt {
            let chunk = format!("{{\"sessionUpdate\":\"user_message_chunk\",\"content\":{block}}}");
            self.listener.update(&chunk).await?;
        }
        Ok(())
    }
}
