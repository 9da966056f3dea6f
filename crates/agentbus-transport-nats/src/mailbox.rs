//! The replies to one call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use agentbus_transport::{Received, Source};
use parking_lot::Mutex;

use crate::link::Link;
use crate::{limits, wire};

/// What waits for the one who called.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<async_nats::Message>,
    receiver: Option<Waker>,
    /// Said once all replies are read.
    last_word: Option<Received>,
    /// Takes no more replies.
    stopped: bool,
}

impl Mailbox {
    /// Puts a reply in. A reader who is too far behind loses it, and is told.
    pub(crate) fn post(&self, reply: async_nats::Message) {
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

    /// Takes what is there; `None` when there is nothing yet.
    fn take(&self, batch: &mut Vec<Received>, max: usize) -> Option<usize> {
        self.0.lock().take(batch, max)
    }

    /// Takes what is there, or waits for it.
    fn poll(&self, cx: &Context<'_>, batch: &mut Vec<Received>, max: usize) -> Poll<usize> {
        let mut state = self.0.lock();
        match state.take(batch, max) {
            Some(count) => Poll::Ready(count),
            None => {
                state.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl State {
    fn take(&mut self, batch: &mut Vec<Received>, max: usize) -> Option<usize> {
        let count = max.min(self.replies.len());
        batch.extend(self.replies.drain(..count).map(|reply| read(&reply)));
        if count > 0 {
            return Some(count);
        }
        match self.last_word.take() {
            Some(word) => {
                batch.push(word);
                Some(1)
            }
            None => self.stopped.then_some(0),
        }
    }

    fn wake(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }
}

/// A reply as the caller sees it. One that cannot be read ends the call: the caller would wait for
/// it in vain, and a stream has a hole from there on.
fn read(reply: &async_nats::Message) -> Received {
    match wire::decode(reply) {
        Ok(message) => Received::reply(Arc::new(message)),
        Err(error) => {
            tracing::warn!(subject = %reply.subject, %error, "a reply cannot be read");
            Received::Lost
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
        let max = max.max(1);
        if let Some(count) = self.mailbox.take(batch, max) {
            return Poll::Ready(count);
        }
        for answer in self.link.inbox().watch(cx) {
            self.link.send_soon(answer);
        }
        let polled = self.mailbox.poll(cx, batch, max);
        if polled.is_ready() {
            self.look_away();
        }
        polled
    }

    fn stop(&mut self) {
        self.mailbox.stop();
    }
}

impl MailboxSource {
    /// Leaves what arrives next to whoever waits next.
    fn look_away(&self) {
        self.link.inbox().look_away();
        self.link.leave_to_caretaker();
    }
}

impl Drop for MailboxSource {
    fn drop(&mut self) {
        self.link.inbox().close(&self.token);
        self.look_away();
    }
}
