//! Following events without losing one.
//!
//! A reader names the last event it has. What came since is read from the store, what comes now is
//! heard from the feed, and a reader that falls too far behind is sent back to the store. If the
//! store has forgotten what it missed, it is told so.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use serde_json::Value;

use super::{Core, Patience};
use crate::model::Event;
use crate::store::{Promise, Tx};
use crate::{Chat, ChatError, EventId, ThreadId, limits};

/// Reads events in their order.
#[derive(Debug)]
pub struct EventReader {
    chat: Chat,
    live: Receiver<Arc<Event>>,
    thread: Option<ThreadId>,
    /// The last event that was given out or passed over.
    after: EventId,
    read: VecDeque<Event>,
    /// Whether the store has to be read before the feed is heard.
    behind: bool,
    /// Whether the reader still has to hear that events are gone.
    gap: Option<EventId>,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The next event.
    Event(Arc<Event>),
    /// Events up to this number are no longer kept; the reader has to look at the threads anew.
    Gap(EventId),
}

impl Chat {
    /// Follows events after a number, or from now on; of one thread, or of all.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn follow(
        &self,
        after: Option<EventId>,
        thread: Option<ThreadId>,
    ) -> Result<EventReader, ChatError> {
        // Before the range is read, so that nothing falls in between.
        let live = self.inner.store.feed().events();
        let (oldest, newest) = self.read(|_, tx| Ok(tx.event_range()?)).await?;
        // A number from another database, or from the future, must not make the reader wait for it.
        let after = after.map_or(newest, |after| after.clamp(0, newest));
        Ok(EventReader {
            chat: self.clone(),
            live,
            thread,
            gap: (after + 1 < oldest).then(|| oldest - 1),
            after,
            read: VecDeque::new(),
            behind: after < newest,
        })
    }

    /// Tells of something in a thread that is not a change of it.
    pub(crate) async fn note(
        &self,
        kind: &'static str,
        thread: ThreadId,
        payload: Value,
    ) -> Result<(), ChatError> {
        let noted = move |core: &Core, tx: &mut dyn Tx| core.emit(tx, kind, Some(&thread), payload);
        self.write_with(Promise::Soon, noted).await
    }

    /// The number of the newest event.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn last_event(&self) -> Result<EventId, ChatError> {
        self.read(|_, tx| Ok(tx.event_range()?.1)).await
    }
}

impl EventReader {
    /// The next event; `None` when the store is closed. Cancel-safe.
    ///
    /// # Errors
    /// Fails when the store does; the reader can go on.
    pub async fn next(&mut self) -> Result<Option<Followed>, ChatError> {
        if let Some(upto) = self.gap.take() {
            // From the beginning, 0, nothing was promised.
            if self.after > 0 {
                self.after = upto;
                return Ok(Some(Followed::Gap(upto)));
            }
        }
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.id;
                return Ok(Some(Followed::Event(Arc::new(event))));
            }
            if self.behind {
                self.catch_up().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(event) if event.id <= self.after => {}
                Ok(event) => {
                    self.after = event.id;
                    if self.wants(&event) {
                        return Ok(Some(Followed::Event(event)));
                    }
                }
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    /// The next event, however often the store fails meanwhile: it is asked again after pauses that
    /// grow, and the reader goes on from the last event that it gave out. `None` when the store is
    /// closed. Cancel-safe.
    pub async fn next_patiently(&mut self) -> Option<Followed> {
        let mut patience = Patience::new();
        loop {
            match self.next().await {
                Ok(followed) => return followed,
                Err(error) => patience.after(error).await.ok()?,
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        self.thread.is_none() || self.thread == event.thread_id
    }

    /// Reads one page; a short one means that the feed has the rest.
    async fn catch_up(&mut self) -> Result<(), ChatError> {
        let (after, thread) = (self.after, self.thread.clone());
        let page = self
            .chat
            .read(move |_, tx| Ok(tx.events_after(after, thread.as_ref(), limits::EVENTS_PAGE)?))
            .await?;
        self.behind = page.len() == limits::EVENTS_PAGE;
        self.read = page.into();
        Ok(())
    }
}
