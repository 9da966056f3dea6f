//! What an agent writes, line by line: updates go to their turns, the rest to the SDK.
//!
//! Everything that an agent can send without end is stopped here, in front of the SDK's queues:
//! updates wait for their readers, requests are counted and refused beyond a limit, and what is no
//! message at all ends the connection when there is too much of it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use agentbus::Payload;
use agentbus::protocol::jsonrpc::{MessageKind, Routing, scan};
use agentbus_process::{LineError, Lines, Stdout};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};

use super::routes::Routes;
use crate::limits::{AGENT_REQUESTS, GARBAGE_LINES};
use crate::sdk::driving::too_many_requests;

/// Why an agent is not listened to any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fed {
    /// It closed its output, or its process ended.
    HungUp,
    /// It wrote too many lines that are no messages; this is the last of them.
    Garbage(String),
    /// It wrote a line that is longer than any message.
    LineTooLong(usize),
}

/// Reads the output of one agent.
pub(super) struct Intake {
    lines: Lines<Stdout>,
    shared: Arc<Shared>,
    garbage: u32,
}

/// What the reader shares with the writer and with those who wait for the end.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) routes: Arc<Routes>,
    /// Requests of the agent that are not answered yet.
    pub(super) asked: AtomicUsize,
    /// Lines for the agent; those of the SDK go the same way.
    pub(super) lines: mpsc::Sender<String>,
    pub(super) fed: watch::Sender<Option<Fed>>,
    /// The version of the protocol in the agent's first answer, which is that to `initialize`.
    pub(super) version: OnceLock<u64>,
}

#[derive(Deserialize)]
struct Notification<'a> {
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(rename = "sessionId")]
    session: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    update: &'a RawValue,
}

#[derive(Deserialize)]
struct Introduced {
    result: Option<Introduction>,
}

#[derive(Deserialize)]
struct Introduction {
    #[serde(rename = "protocolVersion")]
    version: u64,
}

impl Intake {
    pub(super) fn new(lines: Lines<Stdout>, shared: Arc<Shared>) -> Self {
        Self {
            lines,
            shared,
            garbage: 0,
        }
    }

    /// The lines that the SDK has to see; ends when the agent is not listened to any more.
    pub(super) fn into_stream(self) -> impl Stream<Item = io::Result<String>> + Send + 'static {
        stream::unfold(self, |mut intake| async move {
            let line = intake.next().await?;
            // The SDK reads as fast as it is fed; this is where it gets to work off what it has.
            tokio::task::yield_now().await;
            Some((Ok(line), intake))
        })
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            let line = match self.lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return self.end(Fed::HungUp),
                Err(LineError::TooLong { limit }) => return self.end(Fed::LineTooLong(limit)),
                Err(error) => {
                    tracing::debug!(%error, "an agent's output failed");
                    return self.end(Fed::HungUp);
                }
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let Ok(routing) = scan(&line) else {
                self.discard(&line)?;
                continue;
            };
            match routing.kind() {
                MessageKind::Response => self.shared.note_version(&line),
                MessageKind::Request if self.shared.take_request(&line, &routing) => {}
                MessageKind::Request => continue,
                MessageKind::Notification => {
                    if !self.notified(&line, routing.method.as_deref()).await {
                        continue;
                    }
                }
                MessageKind::Invalid => {
                    self.discard(&line)?;
                    continue;
                }
            }
            match String::from_utf8(line.to_vec()) {
                Ok(line) => return Some(line),
                Err(_) => self.discard(&line)?,
            }
        }
    }

    /// Hears a notification; true if the SDK has to see it.
    async fn notified(&self, line: &Bytes, method: Option<&str>) -> bool {
        if method != Some("session/update") {
            // The SDK ends the request that is taken back, and passes on that a person was
            // elsewhere. Nothing else is understood, and what is not understood may be ignored.
            return matches!(method, Some("$/cancel_request" | "elicitation/complete"));
        }
        let routes = &self.shared.routes;
        let read = serde_json::from_slice::<Notification<'_>>(line);
        let Ok(Notification { params }) = read else {
            routes.ignore();
            return false;
        };
        match Payload::within(line, params.update) {
            Some(update) => routes.pass(&params.session, update).await,
            None => routes.ignore(),
        }
        false
    }

    /// Counts a line that is no message; `None` when there were too many.
    fn discard(&mut self, line: &[u8]) -> Option<()> {
        self.garbage += 1;
        let shown = String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned();
        tracing::debug!(line = %shown, "an agent wrote a line that is no message");
        if self.garbage > GARBAGE_LINES {
            return self.end(Fed::Garbage(shown)).map(|_| ());
        }
        Some(())
    }

    fn end(&self, fed: Fed) -> Option<String> {
        self.shared.fed.send_replace(Some(fed));
        None
    }
}

impl Shared {
    /// Counts a request, or refuses it when too many wait already.
    fn take_request(&self, line: &[u8], routing: &Routing<'_>) -> bool {
        if self.asked.fetch_add(1, Ordering::AcqRel) < AGENT_REQUESTS {
            return true;
        }
        let id = routing.id_span().map_or(&b"null"[..], |span| &line[span]);
        if self.lines.try_send(too_many_requests(id)).is_err() {
            // An agent that floods and does not read its refusals gets fewer of them.
            self.answered();
        }
        false
    }

    /// Resolves with why the agent is not listened to any more.
    pub(super) async fn ended(&self) -> Fed {
        let mut fed = self.fed.subscribe();
        let fed = fed.wait_for(Option::is_some).await;
        // The sender is ours, so there is always a value.
        fed.ok().and_then(|fed| fed.clone()).unwrap_or(Fed::HungUp)
    }

    fn note_version(&self, line: &[u8]) {
        if self.version.get().is_some() {
            return;
        }
        let said = serde_json::from_slice::<Introduced>(line);
        // Version 1 is what a client may take an agent for that does not say.
        let version = said
            .ok()
            .and_then(|said| said.result)
            .map_or(1, |it| it.version);
        let _ = self.version.set(version);
    }

    /// Notes that a request of the agent has its answer.
    pub(super) fn answered(&self) {
        let one_less = |asked: usize| Some(asked.saturating_sub(1));
        let _ = self
            .asked
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
    }
}
