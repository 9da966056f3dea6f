//! One inbox for all calls of a connection, for carriers between processes.
//!
//! The connection hears one place, `_INBOX.{client}`, and gives each call a token under it. A
//! reply names its call by the subject it carries, so a call costs the carrier nothing but its two
//! messages.

use std::collections::HashMap;
use std::sync::Arc;

use agentbus_protocol::Subject;
use foldhash::quality::RandomState;
use parking_lot::Mutex;

use super::amb::{self, Notice, Read};
use super::{INBOX, Mailbox, MailboxSource, token};
use crate::{Departed, Inbox, Received, TransportError, limits};

/// The tokens of one connection, and what waits at each.
#[derive(Debug)]
pub struct Inboxes {
    transport: &'static str,
    client: String,
    /// `_INBOX.{client}.`
    prefix: String,
    calls: Mutex<HashMap<String, Arc<Mailbox>, RandomState>>,
    gone: Departed,
}

impl Inboxes {
    /// The inboxes of a client of this carrier.
    #[must_use]
    pub fn new(transport: &'static str, client: &str) -> Self {
        Self {
            transport,
            client: client.to_owned(),
            prefix: format!("{INBOX}{client}."),
            calls: Mutex::default(),
            gone: Departed::new(limits::GONE_INBOXES),
        }
    }

    /// Opens an inbox, which lets go of `keeper` when it is dropped.
    ///
    /// # Errors
    /// Fails when too many are open.
    pub fn open(
        self: &Arc<Self>,
        keeper: impl Send + Sync + 'static,
    ) -> Result<Inbox, TransportError> {
        // Only who was sent a token may answer, so it cannot be guessed.
        let token = token();
        let subject = Subject::parse(&format!("{}{token}", self.prefix));
        let subject = subject.map_err(|error| TransportError::Address(error.to_string()))?;
        let mailbox = Arc::new(Mailbox::default());
        let mut calls = self.calls.lock();
        if calls.len() >= limits::INBOXES_MAX {
            return Err(TransportError::TooMany {
                transport: self.transport,
                what: "inboxes",
                limit: limits::INBOXES_MAX,
            });
        }
        calls.insert(token.clone(), Arc::clone(&mailbox));
        drop(calls);
        let inboxes = Arc::clone(self);
        let close = move || {
            let _ = &keeper;
            inboxes.calls.lock().remove(&token);
        };
        let source = MailboxSource::new(mailbox, close);
        Ok(Inbox::new(subject, source))
    }

    /// The client in the subject of an inbox.
    #[must_use]
    pub fn client_of(inbox: &str) -> &str {
        let rest = inbox.strip_prefix(INBOX).unwrap_or(inbox);
        rest.split('.').next().unwrap_or(rest)
    }

    /// Whether it is known that nobody reads this inbox any more.
    #[must_use]
    pub fn is_gone(&self, subject: &str) -> bool {
        match subject.strip_prefix(&self.prefix) {
            Some(token) => !self.calls.lock().contains_key(token),
            None => self.gone.contains(subject),
        }
    }

    /// Who is told when the inbox of a reply is closed: nobody for our own, which are looked up.
    #[must_use]
    pub fn replier(&self, subject: &str) -> Option<&str> {
        (!subject.starts_with(&self.prefix)).then_some(&*self.client)
    }

    /// All calls in flight.
    pub fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.calls.lock().values().map(Arc::clone).collect()
    }

    /// How many calls are in flight.
    pub fn len(&self) -> usize {
        self.calls.lock().len()
    }

    /// Whether no call is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what arrived. Returns what is to be sent because of it, and to which client.
    pub fn take(&self, read: Read) -> Option<(String, Vec<u8>)> {
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
            None => return Some((read.replier?, amb::encode_gone(subject))),
        }
        None
    }
}

#[cfg(test)]
mod tests;
