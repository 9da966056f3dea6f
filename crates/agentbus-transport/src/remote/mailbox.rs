//! The replies to one call.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::{Message, Received, Source, limits};

/// What waits for the one who called.
#[derive(Debug, Default)]
pub struct Mailbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<Message>,
    receiver: Option<Waker>,
    /// Said once all replies are read.
    last_word: Option<Received>,
    /// Takes no more replies.
    stopped: bool,
}

impl Mailbox {
    /// Puts a reply in. A reader who is too far behind loses it, and is told.
    pub fn post(&self, reply: Message) {
        let mut state = self.0.lock();
        if state.stopped {
            return;
        }
        if state.replies.len() >= limits::REMOTE_INBOX_CAPACITY {
            state.last_word = Some(Received::Lost);
        } else {
            state.replies.push_back(reply);
        }
        state.wake();
    }

    /// Tells the caller something that is no reply.
    pub fn tell(&self, word: Received) {
        let mut state = self.0.lock();
        state.last_word = Some(word);
        state.wake();
    }

    /// Takes no more; what is there can still be read.
    pub fn stop(&self) {
        let mut state = self.0.lock();
        state.stopped = true;
        state.wake();
    }

    /// How many replies nobody has read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.0.lock().replies.len()
    }

    fn poll(&self, cx: &Context<'_>, batch: &mut Vec<Received>, max: usize) -> Poll<usize> {
        let mut state = self.0.lock();
        let before = batch.len();
        while batch.len() - before < max {
            let Some(reply) = state.replies.pop_front() else {
                break;
            };
            batch.push(Received::reply(Arc::new(reply)));
        }
        if batch.len() == before {
            batch.extend(state.last_word.take());
        }
        if batch.len() == before && !state.stopped {
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(batch.len() - before)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }
}

/// The receiving end of a mailbox. Dropping it closes the inbox.
pub struct MailboxSource {
    mailbox: Arc<Mailbox>,
    close: Box<dyn Fn() + Send + Sync>,
}

impl MailboxSource {
    /// Reads a mailbox; `close` forgets it.
    #[must_use]
    pub fn new(mailbox: Arc<Mailbox>, close: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            mailbox,
            close: Box::new(close),
        }
    }
}

impl fmt::Debug for MailboxSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mailbox.fmt(f)
    }
}

impl Source for MailboxSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        self.mailbox.poll(cx, batch, max.max(1))
    }

    fn stop(&mut self) {
        self.mailbox.stop();
    }
}

impl Drop for MailboxSource {
    fn drop(&mut self) {
        (self.close)();
    }
}
