//! The replies to one call.
//!
//! Every call opens one, so it is as small as it can be: one receiver, one lane, no verdicts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Broker, Common, Phase};
use crate::{Message, Received, Source, limits};

#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) token: u128,
    state: Mutex<State>,
    /// Wakes repliers when there is room again.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    replies: Replies,
    receiver: Option<Waker>,
    repliers_waiting: bool,
    /// Whether the request was given up, which the caller has not been told.
    lost: bool,
}

/// The replies that wait. Most calls have one, for which nothing is allocated.
#[derive(Debug, Default)]
struct Replies {
    first: Option<Arc<Message>>,
    /// Empty while there is no first.
    rest: VecDeque<Arc<Message>>,
}

impl Replies {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn push(&mut self, reply: Arc<Message>) {
        if self.first.is_none() {
            self.first = Some(reply);
        } else {
            self.rest.push_back(reply);
        }
    }

    fn pop(&mut self) -> Option<Arc<Message>> {
        let next = self.rest.pop_front();
        std::mem::replace(&mut self.first, next)
    }
}

/// What became of a reply.
pub(super) enum Posted {
    /// It is in the mailbox.
    Taken,
    /// The mailbox is full.
    Full(Arc<Message>),
    /// The call is over.
    Gone,
}

impl Mailbox {
    pub(super) fn new(token: u128) -> Self {
        Self {
            token,
            state: Mutex::default(),
            room: Notify::new(),
        }
    }

    /// Puts a reply in, or says why not. Never waits.
    pub(super) fn post(&self, reply: Arc<Message>) -> Posted {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Posted::Gone;
        }
        if state.replies.len() >= limits::INBOX_CAPACITY {
            state.repliers_waiting = true;
            return Posted::Full(reply);
        }
        state.replies.push(reply);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        Posted::Taken
    }

    /// Tells the caller that nobody works on its request any more.
    pub(super) fn lose(&self) {
        let mut state = self.state.lock();
        state.lost = true;
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Puts a reply in, waiting for room as long as the call lasts.
    pub(super) async fn post_when_room(&self, mut reply: Arc<Message>) -> Posted {
        loop {
            // Registered before the attempt, so that room made in between is not missed.
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            reply = match self.post(reply) {
                Posted::Full(reply) => reply,
                settled => return settled,
            };
            room.await;
        }
    }

    /// Gives out up to `max` replies and returns how many; 0 when no more will come.
    fn poll_receive(
        &self,
        cx: &Context<'_>,
        max: usize,
        common: &Common,
        mut give: impl FnMut(Received),
    ) -> Poll<usize> {
        let mut state = self.state.lock();
        if state.replies.is_empty() {
            if std::mem::take(&mut state.lost) {
                give(Received::Lost);
                return Poll::Ready(1);
            }
            if state.phase != Phase::Open {
                return Poll::Ready(0);
            }
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = max.min(state.replies.len());
        let replies = std::iter::from_fn(|| state.replies.pop());
        replies.take(taken).map(Received::reply).for_each(&mut give);
        // Repliers are woken when half of the mailbox is free; see the queue.
        let half_free = state.replies.len() <= limits::INBOX_CAPACITY / 2;
        let wake_repliers = half_free && std::mem::take(&mut state.repliers_waiting);
        let emptied = state.replies.is_empty() && state.phase == Phase::Stopping;
        drop(state);
        if wake_repliers {
            self.room.notify_waiters();
        }
        if emptied {
            common.emptied.notify_waiters();
        }
        Poll::Ready(taken)
    }

    /// Takes no replies from now on, but gives out what it has.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Stopping;
        }
        self.release(state);
    }

    /// Takes and gives no replies from now on. Returns how many were given up.
    pub(super) fn end(&self) -> usize {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        let abandoned = std::mem::take(&mut state.replies);
        self.release(state);
        abandoned.len()
    }

    /// Lets everybody who waits look again.
    fn release(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let receiver = state.receiver.take();
        let repliers_waited = std::mem::take(&mut state.repliers_waiting);
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        if repliers_waited {
            self.room.notify_waiters();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().replies.is_empty()
    }
}

/// The receiving end of a mailbox. Dropping it closes the mailbox.
#[derive(Debug)]
pub(super) struct MailboxSource {
    pub(super) broker: Arc<Broker>,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Source for MailboxSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let give = |reply| batch.push(reply);
        self.mailbox
            .poll_receive(cx, max.max(1), &self.broker.common, give)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        let mut next = None;
        let give = |reply| next = Some(reply);
        let polled = self.mailbox.poll_receive(cx, 1, &self.broker.common, give);
        polled.map(|_| next)
    }

    fn stop(&mut self) {
        self.mailbox.stop();
    }
}

impl Drop for MailboxSource {
    fn drop(&mut self) {
        self.broker.common.inboxes.close(&self.mailbox);
        self.broker.common.emptied.notify_waiters();
    }
}
