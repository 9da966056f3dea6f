//! One inbox for all calls of a connection.
//!
//! The connection subscribes once to `_INBOX.{connection}.>` and gives each call a token under
//! it, so that a call costs the server nothing but its two messages. Peers see an ordinary
//! `reply_to`.
//!
//! A caller that is alone takes its reply out of the channel itself and is woken by it directly;
//! as soon as there are others, one task deals out what arrives.
//!
//! The same subscription hears three other things: answers of the server to this connection
//! itself, the server's notice that nobody listens, and the news that an inbox elsewhere is closed.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use agentbus_protocol::Subject;
use agentbus_transport::{Departed, Received, TransportError, limits as common};
use async_nats::message::OutboundMessage;
use async_nats::{StatusCode, Subscriber};
use foldhash::quality::RandomState;
use futures_util::Stream;
use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::oneshot;

use crate::limits;
use crate::mailbox::Mailbox;
use crate::wire::Notice;

/// What the subject of every inbox begins with.
const INBOX: &str = "_INBOX.";

/// Below this token of our own inbox arrives the news that another inbox is closed; the rest of
/// the subject names it.
const GONE: &str = "gone.";

/// The tokens of one connection, and what waits at each.
#[derive(Debug)]
pub(crate) struct SharedInbox {
    /// `_INBOX.{connection}.`
    prefix: String,
    slots: Mutex<HashMap<String, Slot, RandomState>>,
    /// Locked before `slots`, never after.
    hearing: Mutex<Hearing>,
    gone: Departed,
}

/// Who takes what arrives.
#[derive(Debug, Default)]
struct Hearing {
    channel: Option<Subscriber>,
    /// The task that deals out what arrives for several.
    hearer: Option<Waker>,
    watcher: Watcher,
}

/// Who is woken by what arrives.
///
/// ## Nobody => (Caller | Hearer), Caller => (Nobody | Hearer), Hearer => Caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Watcher {
    /// Until the next call waits, or the caretaker comes by.
    #[default]
    Nobody,
    /// The one call that is open.
    Caller,
    Hearer,
}

#[derive(Debug)]
enum Slot {
    /// A call of somebody who uses this transport.
    Call(Arc<Mailbox>),
    /// A question of the transport itself, which has one answer.
    Question(oneshot::Sender<async_nats::Message>),
}

impl SharedInbox {
    pub(crate) fn new() -> Self {
        // Only who was sent a token may answer, so neither part can be guessed.
        let connection = Subject::inbox(rand::rng().random());
        Self {
            prefix: format!("{connection}."),
            slots: Mutex::default(),
            hearing: Mutex::default(),
            gone: Departed::new(limits::GONE_INBOXES),
        }
    }

    /// What the connection subscribes to.
    pub(crate) fn pattern(&self) -> String {
        format!("{}>", self.prefix)
    }

    /// Opens an inbox and returns its token and its subject.
    pub(crate) fn open(
        &self,
        transport: &'static str,
        mailbox: Arc<Mailbox>,
    ) -> Result<(String, Subject), TransportError> {
        let token = token();
        let subject = Subject::parse(&format!("{}{token}", self.prefix));
        let subject = subject.map_err(|error| TransportError::Address(error.to_string()))?;
        let mut slots = self.slots.lock();
        if slots.len() >= common::INBOXES_MAX {
            return Err(TransportError::TooMany {
                transport,
                what: "inboxes",
                limit: common::INBOXES_MAX,
            });
        }
        slots.insert(token.clone(), Slot::Call(mailbox));
        let alone = slots.len() == 1;
        drop(slots);
        if !alone {
            self.relieve(|watcher| watcher == Watcher::Caller);
        }
        Ok((token, subject))
    }

    /// Begins to hear what arrives in a channel.
    pub(crate) fn listen(&self, channel: Subscriber) {
        self.hearing.lock().channel = Some(channel);
    }

    /// Deals out what arrives, unless a lone caller does. Returns what is to be sent because of
    /// it, and whether nothing more will arrive.
    pub(crate) fn hear(&self, cx: &mut Context<'_>) -> (Vec<OutboundMessage>, bool) {
        let mut hearing = self.hearing.lock();
        hearing.hearer = Some(cx.waker().clone());
        if hearing.watcher == Watcher::Caller && self.is_lone() {
            return (Vec::new(), false);
        }
        hearing.watcher = Watcher::Hearer;
        let answers = self.take_all(&mut hearing, cx);
        (answers, hearing.channel.is_none())
    }

    /// Takes what arrived, for a caller that is about to wait. If it is alone it is woken by what
    /// arrives next; otherwise the task is, which wakes whom it concerns.
    pub(crate) fn watch(&self, cx: &mut Context<'_>) -> Vec<OutboundMessage> {
        let mut hearing = self.hearing.lock();
        match hearing.hearer.clone().filter(|_| !self.is_lone()) {
            Some(_) if hearing.watcher == Watcher::Hearer => Vec::new(),
            Some(hearer) => {
                hearing.watcher = Watcher::Hearer;
                self.take_all(&mut hearing, &mut Context::from_waker(&hearer))
            }
            None => {
                hearing.watcher = Watcher::Caller;
                self.take_all(&mut hearing, cx)
            }
        }
    }

    /// Says that the caller that watched does so no more.
    pub(crate) fn look_away(&self) {
        let mut hearing = self.hearing.lock();
        if hearing.watcher == Watcher::Caller {
            hearing.watcher = Watcher::Nobody;
        }
    }

    /// Has the task watch where nobody does.
    pub(crate) fn look_after(&self) {
        self.relieve(|watcher| watcher == Watcher::Nobody);
    }

    fn relieve(&self, concerns: impl Fn(Watcher) -> bool) {
        let hearing = self.hearing.lock();
        if concerns(hearing.watcher)
            && let Some(hearer) = hearing.hearer.clone()
        {
            drop(hearing);
            hearer.wake();
        }
    }

    fn is_lone(&self) -> bool {
        self.slots.lock().len() <= 1
    }

    fn take_all(&self, hearing: &mut Hearing, cx: &mut Context<'_>) -> Vec<OutboundMessage> {
        let mut answers = Vec::new();
        while let Some(channel) = &mut hearing.channel {
            match Pin::new(channel).poll_next(cx) {
                Poll::Ready(Some(raw)) => answers.extend(self.take(raw)),
                Poll::Ready(None) => hearing.channel = None,
                Poll::Pending => break,
            }
        }
        answers
    }

    /// Makes a subject for one answer.
    pub(crate) fn ask(self: &Arc<Self>) -> Question {
        let (sender, answer) = oneshot::channel();
        let token = token();
        let subject = format!("{}{token}", self.prefix);
        self.slots
            .lock()
            .insert(token.clone(), Slot::Question(sender));
        // A question does not watch for its answer.
        self.relieve(|watcher| watcher != Watcher::Hearer);
        Question {
            inbox: Arc::clone(self),
            token,
            subject,
            answer,
        }
    }

    pub(crate) fn close(&self, token: &str) {
        self.slots.lock().remove(token);
    }

    /// Whether a reply subject is an inbox of ours that is still open.
    pub(crate) fn holds(&self, subject: &str) -> bool {
        let token = subject.strip_prefix(&self.prefix);
        token.is_some_and(|token| self.slots.lock().contains_key(token))
    }

    /// Whether it is known that nobody reads this inbox any more.
    pub(crate) fn is_gone(&self, subject: &str) -> bool {
        match subject.strip_prefix(&self.prefix) {
            Some(token) => !self.slots.lock().contains_key(token),
            None => self.gone.contains(subject),
        }
    }

    /// The subject to which the server reports that nobody reads an inbox.
    pub(crate) fn when_gone(&self, subject: &str) -> Option<String> {
        let rest = subject.strip_prefix(INBOX)?;
        // Replies to ourselves are looked up instead.
        (!subject.starts_with(&self.prefix)).then(|| format!("{}{GONE}{rest}", self.prefix))
    }

    /// All calls in flight.
    pub(crate) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        let slots = self.slots.lock();
        let calls = slots.values().filter_map(|slot| match slot {
            Slot::Call(mailbox) => Some(Arc::clone(mailbox)),
            Slot::Question(_) => None,
        });
        calls.collect()
    }

    /// Forgets all questions, whose askers then hear that there is no answer.
    pub(crate) fn drop_questions(&self) {
        let is_call = |slot: &Slot| matches!(slot, Slot::Call(_));
        self.slots.lock().retain(|_, slot| is_call(slot));
    }

    /// Takes what arrived. Returns what is to be sent because of it.
    fn take(&self, raw: async_nats::Message) -> Option<OutboundMessage> {
        let token = raw.subject.as_str().strip_prefix(&self.prefix)?;
        if let Some(inbox) = token.strip_prefix(GONE) {
            self.gone.note(format!("{INBOX}{inbox}"));
            return None;
        }
        let mut slots = self.slots.lock();
        match slots.get(token) {
            Some(Slot::Call(mailbox)) => {
                let mailbox = Arc::clone(mailbox);
                drop(slots);
                deliver(&mailbox, raw);
            }
            Some(Slot::Question(_)) => {
                if let Some(Slot::Question(sender)) = slots.remove(token) {
                    // An asker who gave up wants no answer.
                    let _ = sender.send(raw);
                }
            }
            None => return raw.reply.map(tell_gone),
        }
        None
    }
}

fn deliver(mailbox: &Mailbox, raw: async_nats::Message) {
    if raw.status == Some(StatusCode::NO_RESPONDERS) {
        return mailbox.tell(Received::NoResponder);
    }
    match Notice::of(&raw) {
        Some(Notice::Lost) => mailbox.tell(Received::Lost),
        _ => mailbox.post(raw),
    }
}

/// Tells a replier that its inbox is closed. The server would do so only when the whole
/// connection is gone.
fn tell_gone(reply: async_nats::Subject) -> OutboundMessage {
    OutboundMessage {
        subject: reply,
        reply: None,
        payload: bytes::Bytes::new(),
        headers: Some(Notice::Gone.headers()),
    }
}

fn token() -> String {
    let random = Subject::inbox(rand::rng().random());
    random.as_str()[INBOX.len()..].to_owned()
}

/// A question on its way. Dropping it forgets it.
#[derive(Debug)]
pub(crate) struct Question {
    inbox: Arc<SharedInbox>,
    token: String,
    subject: String,
    answer: oneshot::Receiver<async_nats::Message>,
}

impl Question {
    /// Where the answer is awaited.
    pub(crate) fn subject(&self) -> async_nats::Subject {
        self.subject.as_str().into()
    }

    /// The first answer; `None` when the connection was closed. Cancel-safe.
    pub(crate) async fn answer(&mut self) -> Option<async_nats::Message> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.inbox.close(&self.token);
    }
}
