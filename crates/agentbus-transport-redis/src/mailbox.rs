//! The replies to one call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use agentbus_transport::{Message, Received, Source};
use parking_lot::Mutex;

use crate::limits;
use crate::link::Link;

/// What waits for the one who called.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<State>);

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
    pub(crate) fn post(&self, reply: Message) {
        let mut state = self.0.lock();
        if state.stopped {
            return;
        }
        if state.replies.len() >= limits::INBOX_CAPACITY {
            state.last_word = Some(Received::Lost);
        } else {
            state.replies.push_back(reply);
        }
        state.wake();
    }

    /// Tells the caller something that is no reply.
    pub(crate) fn tell(&self, word: Received) {
        let mut state = self.0.lock();
        state.last_word = Some(word);
        state.wake();
    }

    /// Takes no more; what is there can still be read.
    pub(crate) fn stop(&self) {
        let mut state = self.0.lock();
        state.stopped = true;
        state.wake();
    }

    pub(crate) fn len(&self) -> usize {
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
#[derive(Debug)]
pub(crate) struct MailboxSource {
    pub(crate) link: Arc<Link>,
    pub(crate) token: String,
    pub(crate) mailbox: Arc<Mailbox>,
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
        self.link.inbox().close(&self.token);
    }
}
