//! One inbox for all calls of a connection.
//!
//! The connection hears one channel, `_INBOX.{client}`, and gives each call a token under it. A
//! reply names its call by the subject it carries, so a call costs the server nothing but its two
//! messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentbus_protocol::{Envelope, EventType, Subject};
use agentbus_transport::remote::amb::{self, Extra, Notice};
use agentbus_transport::remote::{INBOX, Mailbox, stamp, token};
use agentbus_transport::{Departed, Message, Received, TransportError, limits as common};
use bytes::Bytes;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::commands::NAME;
use crate::limits;
use crate::names::Names;

/// What an echo begins with; no JSON object does.
const ECHO: u8 = b'?';

/// The tokens of one connection, and what waits at each.
#[derive(Debug)]
pub(crate) struct SharedInbox {
    client: String,
    names: Names,
    /// `_INBOX.{client}.`
    prefix: String,
    calls: Mutex<HashMap<String, Arc<Mailbox>, RandomState>>,
    questions: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    numbers: AtomicU64,
    gone: Departed,
}

impl SharedInbox {
    pub(crate) fn new(client: &str, names: Names) -> Self {
        Self {
            client: client.to_owned(),
            names,
            prefix: format!("{INBOX}{client}."),
            calls: Mutex::default(),
            questions: Mutex::default(),
            numbers: AtomicU64::new(0),
            gone: Departed::new(limits::GONE_INBOXES),
        }
    }

    /// Opens an inbox and returns its token and its subject.
    pub(crate) fn open(&self, mailbox: Arc<Mailbox>) -> Result<(String, Subject), TransportError> {
        // Only who was sent a token may answer, so it cannot be guessed.
        let token = token();
        let subject = Subject::parse(&format!("{}{token}", self.prefix));
        let subject = subject.map_err(|error| TransportError::Address(error.to_string()))?;
        let mut calls = self.calls.lock();
        if calls.len() >= common::INBOXES_MAX {
            return Err(TransportError::TooMany {
                transport: NAME,
                what: "inboxes",
                limit: common::INBOXES_MAX,
            });
        }
        calls.insert(token.clone(), mailbox);
        Ok((token, subject))
    }

    pub(crate) fn close(&self, token: &str) {
        self.calls.lock().remove(token);
    }

    /// Makes a question to ourselves, and what hears its echo.
    pub(crate) fn ask(&self) -> (Vec<u8>, oneshot::Receiver<()>) {
        let (sender, answered) = oneshot::channel();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut questions = self.questions.lock();
        // What nobody waits for any more need not be remembered.
        questions.retain(|_, sender| !sender.is_closed());
        questions.insert(number, sender);
        (format!("?{number}").into_bytes(), answered)
    }

    /// The channel of a subject that is an inbox: all inboxes of one client share one.
    pub(crate) fn channel_of(&self, inbox: &str) -> String {
        let rest = inbox.strip_prefix(INBOX).unwrap_or(inbox);
        let client = rest.split('.').next().unwrap_or(rest);
        self.names.inbox(client)
    }

    /// Whether it is known that nobody reads this inbox any more.
    pub(crate) fn is_gone(&self, subject: &str) -> bool {
        match subject.strip_prefix(&self.prefix) {
            Some(token) => !self.calls.lock().contains_key(token),
            None => self.gone.contains(subject),
        }
    }

    /// Who is told when the inbox of a reply is closed: nobody for our own, which are looked up.
    pub(crate) fn replier(&self, subject: &str) -> Option<&str> {
        (!subject.starts_with(&self.prefix)).then_some(&*self.client)
    }

    /// All calls in flight.
    pub(crate) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.calls.lock().values().map(Arc::clone).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.lock().len()
    }

    /// Takes what arrived. Returns what is to be published because of it, and where.
    pub(crate) fn take(&self, data: &Bytes) -> Option<(String, Vec<u8>)> {
        if data.first() == Some(&ECHO) {
            self.answer(data);
            return None;
        }
        let read = match amb::decode(data) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "a reply cannot be read");
                return None;
            }
        };
        let subject = read.message.subject.clone();
        if read.notice == Some(Notice::Gone) {
            self.gone.note(subject.as_str().to_owned());
            return None;
        }
        let token = subject.as_str().strip_prefix(&self.prefix)?;
        let mailbox = self.calls.lock().get(token).map(Arc::clone);
        match mailbox {
            Some(mailbox) if read.notice == Some(Notice::Lost) => mailbox.tell(Received::Lost),
            Some(mailbox) => mailbox.post(read.message),
            None => return Some((self.names.inbox(&read.replier?), gone(subject))),
        }
        None
    }

    fn answer(&self, data: &[u8]) {
        let number = std::str::from_utf8(&data[1..])
            .ok()
            .and_then(|text| text.parse().ok());
        let asked = number.and_then(|number: u64| self.questions.lock().remove(&number));
        if let Some(asked) = asked {
            // An asker who gave up wants no answer.
            let _ = asked.send(());
        }
    }
}

/// Tells a replier that its inbox is closed. The server would do so only when the whole
/// connection is gone.
fn gone(inbox: Subject) -> Vec<u8> {
    let message = Message::new(inbox, Envelope::new(stamp(), EventType::from("inbox.gone")));
    let extra = Extra {
        notice: Some(Notice::Gone),
        replier: None,
    };
    amb::encode(&message, &extra)
}
