//! One partition for the replies to all calls of a client.
//!
//! A client reads one partition of the topic of replies, and its inboxes are named for it:
//! `_INBOX.{partition}-{random}.{token}`. So a call makes no topic and leaves nothing behind.

use std::collections::HashMap;
use std::sync::Arc;

use agentbus_protocol::Subject;
use agentbus_transport::remote::amb::{self, Notice, Read};
use agentbus_transport::remote::{INBOX, Mailbox, token};
use agentbus_transport::{Departed, Received, TransportError, limits as common};
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use rand::RngExt;

use crate::broker::NAME;
use crate::limits;
use crate::table::{Dealt, client_of};

/// The calls of one client.
#[derive(Debug)]
pub(crate) struct SharedInbox {
    /// The client's name, which begins with its partition.
    pub(crate) client: String,
    /// `_INBOX.{client}.`
    prefix: String,
    calls: Mutex<HashMap<String, Call, RandomState>>,
    gone: Departed,
    gone_clients: Departed,
}

#[derive(Debug)]
struct Call {
    mailbox: Arc<Mailbox>,
    /// The members that have the request, by any of whom it may be answered.
    asked: Vec<Arc<str>>,
}

impl SharedInbox {
    pub(crate) fn new() -> Self {
        let partition = rand::rng().random_range(0..limits::REPLY_PARTITIONS);
        let client = format!("{partition}-{}", token());
        Self {
            prefix: format!("{INBOX}{client}."),
            client,
            calls: Mutex::default(),
            gone: Departed::new(limits::GONE_INBOXES),
            gone_clients: Departed::new(limits::GONE_INBOXES),
        }
    }

    /// The partition on which this client hears replies.
    pub(crate) fn partition(&self) -> i32 {
        partition_of_client(&self.client).unwrap_or_default()
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
        let asked = Vec::new();
        calls.insert(token.clone(), Call { mailbox, asked });
        Ok((token, subject))
    }

    pub(crate) fn close(&self, token: &str) {
        self.calls.lock().remove(token);
    }

    /// Remembers who has a request, for the case that they die with it.
    pub(crate) fn asked(&self, inbox: &str, dealt: &[Dealt]) {
        let Some(token) = inbox.strip_prefix(&self.prefix) else {
            return;
        };
        if let Some(call) = self.calls.lock().get_mut(token) {
            call.asked = dealt.iter().map(|(member, _)| Arc::clone(member)).collect();
        }
    }

    /// Notes that a client has left. Returns the calls that nobody will answer who has not yet.
    pub(crate) fn note_left(&self, client: &str) -> Vec<Arc<Mailbox>> {
        self.gone_clients.note(client.to_owned());
        let mut unanswered = Vec::new();
        for call in self.calls.lock().values_mut() {
            let before = call.asked.len();
            call.asked.retain(|member| client_of(member) != client);
            if call.asked.is_empty() && before > 0 {
                unanswered.push(Arc::clone(&call.mailbox));
            }
        }
        unanswered
    }

    /// Whether it is known that nobody reads this inbox any more.
    pub(crate) fn is_gone(&self, subject: &str) -> bool {
        match subject.strip_prefix(&self.prefix) {
            Some(token) => !self.calls.lock().contains_key(token),
            None => {
                self.gone.contains(subject)
                    || client_of_inbox(subject)
                        .is_none_or(|client| self.gone_clients.contains(client))
            }
        }
    }

    /// Who is told when the inbox of a reply is closed: nobody for our own, which are looked up.
    pub(crate) fn replier(&self, subject: &str) -> Option<&str> {
        (!subject.starts_with(&self.prefix)).then_some(&*self.client)
    }

    /// All calls in flight.
    pub(crate) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        let calls = self.calls.lock();
        calls
            .values()
            .map(|call| Arc::clone(&call.mailbox))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.lock().len()
    }

    /// Takes a reply. Returns what is to be said because of it, to which client and on which
    /// partition.
    pub(crate) fn take(&self, read: Read) -> Option<(String, i32, Vec<u8>)> {
        let subject = read.message.subject.clone();
        if read.notice == Some(Notice::Gone) {
            self.gone.note(subject.as_str().to_owned());
            return None;
        }
        let token = subject.as_str().strip_prefix(&self.prefix)?;
        let mailbox = self
            .calls
            .lock()
            .get(token)
            .map(|call| Arc::clone(&call.mailbox));
        match mailbox {
            Some(mailbox) if read.notice == Some(Notice::Lost) => mailbox.tell(Received::Lost),
            Some(mailbox) => mailbox.post(read.message),
            None => {
                let replier = read.replier?;
                let partition = partition_of_client(&replier)?;
                return Some((replier, partition, amb::encode_gone(subject)));
            }
        }
        None
    }

    /// Whether a record of the partition, which is shared, is for this client.
    pub(crate) fn concerns(&self, key: &str) -> bool {
        key == self.client
    }
}

/// The client to which an inbox belongs.
fn client_of_inbox(subject: &str) -> Option<&str> {
    subject.strip_prefix(INBOX)?.split('.').next()
}

/// The client to which an inbox belongs, and the partition on which it hears replies; `None` for
/// an inbox that no client of this transport opened.
pub(crate) fn home_of(inbox: &str) -> Option<(&str, i32)> {
    let client = client_of_inbox(inbox)?;
    Some((client, partition_of_client(client)?))
}

fn partition_of_client(client: &str) -> Option<i32> {
    let (partition, _) = client.split_once('-')?;
    let partition = partition.parse().ok()?;
    (0..limits::REPLY_PARTITIONS)
        .contains(&partition)
        .then_some(partition)
}
