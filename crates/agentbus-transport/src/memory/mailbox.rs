//! The replies to one call.
//!
//! Every call opens one, so it is as small as it can be: one receiver, one lane, no verdicts, and no
//! lock of its own. It stands in the table of open inboxes and is changed under that table's lock;
//! nothing here wakes anybody or drops a waker, which is left to whoever has given the lock back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Phase;
use crate::{Message, Received, limits};

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    phase: Phase,
    replies: Replies,
    receiver: Option<Waker>,
    /// When the receiver is to be woken though there is nothing for it.
    due: Option<Instant>,
    /// Wakes repliers when there is room again; there once the mailbox was full.
    room: Option<Arc<Notify>>,
    repliers_waiting: bool,
    /// Whether the request was given up, which the caller has not been told.
    lost: bool,
}

/// The replies that wait. Most calls have one, for which nothing is allocated.
#[derive(Debug, Default)]
struct Replies {
    first: Option<Arc<Message>>,
    /// Empty while there is no first, and apart from the mailbox, which is moved whenever one is
    /// opened or closed.
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest(VecDeque<Arc<Message>>);

impl Replies {
    fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.0.len());
        usize::from(self.first.is_some()) + rest
    }

    const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn push(&mut self, reply: Arc<Message>) {
        if self.first.is_none() {
            self.first = Some(reply);
        } else {
            self.rest.get_or_insert_default().0.push_back(reply);
        }
    }

    fn pop(&mut self) -> Option<Arc<Message>> {
        let next = self.rest.as_mut().and_then(|rest| rest.0.pop_front());
        std::mem::replace(&mut self.first, next)
    }
}

/// What became of a reply.
pub(super) enum Posted {
    /// It is in the mailbox.
    Taken,
    /// The mailbox is full; when to try again.
    Full(Arc<Message>, Arc<Notify>),
    /// The call is over.
    Gone(Arc<Message>),
}

/// What the caller got from its mailbox.
pub(super) enum Taken {
    /// So many replies, and what to tell others of it; 0 when no more will come.
    Some(usize, Signals),
    /// None yet. The waker that stood there before is no longer needed.
    Waits(Option<Waker>),
}

impl Taken {
    /// Does what is left to do once the lock was given back. Returns how many were given out, and
    /// whether a stopped mailbox has become empty with them.
    pub(super) fn settle(self) -> Poll<(usize, bool)> {
        match self {
            Self::Some(count, signals) => {
                let emptied = signals.emptied;
                signals.send();
                Poll::Ready((count, emptied))
            }
            Self::Waits(before) => {
                drop(before);
                Poll::Pending
            }
        }
    }
}

/// Whom to wake once the lock was given back.
#[derive(Debug, Default)]
pub(super) struct Signals {
    receiver: Option<Waker>,
    room: Option<Arc<Notify>>,
    /// Whether a mailbox that takes no more replies has just become empty.
    pub(super) emptied: bool,
}

impl Signals {
    pub(super) fn send(self) {
        if let Some(receiver) = self.receiver {
            receiver.wake();
        }
        if let Some(room) = self.room {
            room.notify_waiters();
        }
    }
}

impl Mailbox {
    /// Puts a reply in and returns the receiver to wake, or says why not.
    pub(super) fn post(&mut self, reply: Arc<Message>) -> Result<Option<Waker>, Posted> {
        if self.phase != Phase::Open {
            return Err(Posted::Gone(reply));
        }
        if self.replies.len() >= limits::INBOX_CAPACITY {
            self.repliers_waiting = true;
            let room = self.room.get_or_insert_default();
            return Err(Posted::Full(reply, Arc::clone(room)));
        }
        self.replies.push(reply);
        Ok(self.receiver.take())
    }

    /// Notes that nobody works on the request any more; returns the caller, to be woken.
    pub(super) fn lose(&mut self) -> Option<Waker> {
        self.lost = true;
        self.receiver.take()
    }

    /// Gives out up to `max` replies, or remembers whom to wake for one, and by when.
    pub(super) fn take(
        &mut self,
        cx: &Context<'_>,
        due: Option<Instant>,
        max: usize,
        mut give: impl FnMut(Received),
    ) -> Taken {
        if self.replies.is_empty() {
            self.due = due;
            return self.take_nothing(cx, give);
        }
        let taken = max.min(self.replies.len());
        let replies = std::iter::from_fn(|| self.replies.pop());
        replies.take(taken).map(Received::reply).for_each(&mut give);
        // Repliers are woken when half of the mailbox is free; see the queue.
        let half_free = self.replies.len() <= limits::INBOX_CAPACITY / 2;
        let wake_repliers = half_free && std::mem::take(&mut self.repliers_waiting);
        let signals = Signals {
            receiver: None,
            room: self.room.clone().filter(|_| wake_repliers),
            emptied: self.replies.is_empty() && self.phase == Phase::Stopping,
        };
        Taken::Some(taken, signals)
    }

    /// Gives out the reply that ends the call, if it is the next one.
    pub(super) fn take_last(&mut self) -> Option<Arc<Message>> {
        let next = self.replies.first.as_ref()?;
        if next.envelope.event_type.is_underway() || next.is_expired() {
            return None;
        }
        self.replies.pop()
    }

    /// The receiver, to be woken, if its time is over by now.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Waker> {
        self.due.take_if(|due| *due <= now)?;
        self.receiver.take()
    }

    /// The receiver, to be woken, if there is a time for that.
    pub(super) fn unwatched(&mut self) -> Option<Waker> {
        self.due.take()?;
        self.receiver.take()
    }

    /// When the receiver is to be woken at the latest.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    fn take_nothing(&mut self, cx: &Context<'_>, mut give: impl FnMut(Received)) -> Taken {
        if std::mem::take(&mut self.lost) {
            give(Received::Lost);
            return Taken::Some(1, Signals::default());
        }
        if self.phase != Phase::Open {
            return Taken::Some(0, Signals::default());
        }
        Taken::Waits(self.receiver.replace(cx.waker().clone()))
    }

    /// Takes no replies from now on, but gives out what it has.
    pub(super) fn stop(&mut self) -> Signals {
        if self.phase == Phase::Open {
            self.phase = Phase::Stopping;
        }
        self.release()
    }

    /// Takes and gives no replies from now on. Returns those that were given up.
    pub(super) fn end(&mut self) -> (Vec<Arc<Message>>, Signals) {
        self.phase = Phase::Ended;
        let abandoned = std::iter::from_fn(|| self.replies.pop()).collect();
        (abandoned, self.release())
    }

    /// Lets everybody who waits look again.
    fn release(&mut self) -> Signals {
        self.repliers_waiting = false;
        Signals {
            receiver: self.receiver.take(),
            room: self.room.clone(),
            emptied: false,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// Ends it for good. Most of those that go are those of calls that got their one reply, and
    /// nobody has to be told.
    pub(super) fn farewell(mut self) -> Signals {
        if self.is_empty() && self.receiver.is_none() && self.room.is_none() {
            return Signals::default();
        }
        self.end().1
    }
}
