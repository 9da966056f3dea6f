//! What a connection hears on its own channel: replies to its calls, and echoes of its questions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentbus_transport::remote::{Inboxes, amb};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::commands::NAME;
use crate::names::Names;

/// What an echo begins with; no JSON object does.
const ECHO: u8 = b'?';

/// The inboxes of one connection, and its questions to itself.
#[derive(Debug)]
pub(crate) struct SharedInbox {
    names: Names,
    calls: Arc<Inboxes>,
    questions: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    numbers: AtomicU64,
}

impl SharedInbox {
    pub(crate) fn new(client: &str, names: Names) -> Self {
        Self {
            names,
            calls: Arc::new(Inboxes::new(NAME, client)),
            questions: Mutex::default(),
            numbers: AtomicU64::new(0),
        }
    }

    /// The calls in flight.
    pub(crate) const fn calls(&self) -> &Arc<Inboxes> {
        &self.calls
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
        self.names.inbox(Inboxes::client_of(inbox))
    }

    /// Takes what arrived. Returns what is to be published because of it, and where.
    pub(crate) fn take(&self, data: &Bytes) -> Option<(String, Vec<u8>)> {
        if data.first() == Some(&ECHO) {
            self.answer(data);
            return None;
        }
        match amb::decode(data) {
            Ok(read) => {
                let (client, notice) = self.calls.take(read)?;
                Some((self.names.inbox(&client), notice))
            }
            Err(error) => {
                tracing::warn!(%error, "a reply cannot be read");
                None
            }
        }
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
