//! A call from our own process: one request, what the worker says meanwhile, and its answer.
//!
//! The caller writes to the worker's pipe itself and is woken by whoever reads the answer; no
//! task and no channel stands between.

use std::borrow::Cow;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use agentbus_protocol::jsonrpc::{Id, IdKind, MessageKind, Routing, scan};
use bytes::Bytes;
use futures_util::Stream;
use serde_json::json;
use serde_json::value::RawValue;
use smol_str::format_smolstr;
use thiserror::Error;

use crate::codes::Fault;
use crate::core::{ClientId, ClientKind};
use crate::driver::Shared;
use crate::pools::Pools;

/// What the line of every call begins with; the id follows.
const LINE_START: &str = "{\"jsonrpc\":\"2.0\",\"id\":";

/// A request to a pool.
#[derive(Debug, Clone)]
pub struct Call {
    method: String,
    pool: Option<String>,
    session: Option<String>,
    /// Raw JSON members in their order.
    members: Vec<(String, String)>,
    give_up: GiveUp,
}

/// What the worker hears when the caller does not wait any longer.
#[derive(Debug, Clone, Default)]
enum GiveUp {
    #[default]
    Nothing,
    /// This line.
    Line(String),
    /// A notification with the id of the request.
    ById { method: String, member: String },
}

/// What a worker says in answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEvent {
    /// A notification that belongs to the call, as the whole line.
    Notification(Bytes),
    /// A request of the worker; answer it with [`CallStream::respond`].
    Request(Bytes),
    /// The answer; nothing follows it.
    Final(Answer),
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    line: Bytes,
    /// Where they stand in the line; absent where they are `null`.
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
}

/// Why a call has no answer from a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The bus refused or ended it.
    #[error("{}", .0.row().sentence)]
    Bus(Fault),
    /// A member of the call is not JSON, or the method is empty.
    #[error("the call cannot be written as JSON-RPC: check its method and its members")]
    Malformed,
    /// The worker answered, but not with a JSON-RPC answer that can be read.
    #[error(
        "the worker's answer cannot be read: let it write a result or an error that is JSON in UTF-8"
    )]
    Unreadable,
}

/// A call under way. Dropping it gives the call up.
#[derive(Debug)]
pub struct CallStream {
    shared: Arc<Shared>,
    client: ClientId,
    number: u64,
    give_up: GiveUp,
    ended: bool,
}

impl Call {
    /// Calls a method.
    #[must_use]
    pub fn new(method: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            pool: None,
            session: None,
            members: Vec::new(),
            give_up: GiveUp::Nothing,
        }
    }

    /// Names the pool; needed when there are several.
    #[must_use]
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Names the session.
    #[must_use]
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Gives the params as JSON.
    #[must_use]
    pub fn params(self, json: impl Into<String>) -> Self {
        self.member("params", json)
    }

    /// Adds a top-level member as JSON, for example `_ext` or `agentId`.
    #[must_use]
    pub fn member(mut self, name: impl Into<String>, json: impl Into<String>) -> Self {
        self.members.push((name.into(), json.into()));
        self
    }

    /// Sends this line to the worker if the call is given up before its answer.
    ///
    /// Protocols differ in how to cancel; this is the notification of the one spoken here.
    #[must_use]
    pub fn on_give_up(mut self, line: impl Into<String>) -> Self {
        self.give_up = GiveUp::Line(line.into());
        self
    }

    /// Sends a notification to the worker if the call is given up before its answer, with the id
    /// of the request in this member of its params: `notifications/cancelled` and `requestId` in
    /// MCP, `$/cancelRequest` and `id` elsewhere.
    #[must_use]
    pub fn cancel_with(mut self, method: impl Into<String>, member: impl Into<String>) -> Self {
        let (method, member) = (method.into(), member.into());
        self.give_up = GiveUp::ById { method, member };
        self
    }

    /// Writes the line, with the fields the bus needs first.
    fn line(&self, id: &str) -> Result<Vec<u8>, CallError> {
        if self.method.is_empty() {
            return Err(CallError::Malformed);
        }
        let mut line = Vec::with_capacity(self.length());
        for part in [LINE_START, id, ",\"method\":"] {
            line.extend_from_slice(part.as_bytes());
        }
        quote(&mut line, &self.method)?;
        if let Some(session) = &self.session {
            line.extend_from_slice(b",\"sessionId\":");
            quote(&mut line, session)?;
        }
        for (name, json) in &self.members {
            let json: &RawValue = serde_json::from_str(json).map_err(|_| CallError::Malformed)?;
            line.push(b',');
            quote(&mut line, name)?;
            line.push(b':');
            let start = line.len();
            line.extend_from_slice(json.get().as_bytes());
            // A newline between tokens means no more than a blank, and would end the line.
            let breaks = line[start..].iter_mut();
            breaks
                .filter(|byte| matches!(byte, b'\n' | b'\r'))
                .for_each(|byte| *byte = b' ');
        }
        line.push(b'}');
        Ok(line)
    }

    /// Returns about how long the line is.
    fn length(&self) -> usize {
        let members = self.members.iter();
        let members: usize = members
            .map(|(name, json)| name.len() + json.len() + 8)
            .sum();
        let session = self.session.as_deref().map_or(0, str::len);
        96 + self.method.len() + session + members
    }
}

impl GiveUp {
    /// Returns the line for the request with this id.
    fn line(self, id: u64) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Line(line) => Some(line),
            Self::ById { method, member } => {
                let params = serde_json::Map::from_iter([(member, id.into())]);
                let line = json!({ "jsonrpc": "2.0", "method": method, "params": params });
                Some(line.to_string())
            }
        }
    }
}

/// Appends a text as JSON.
fn quote(line: &mut Vec<u8>, text: &str) -> Result<(), CallError> {
    serde_json::to_writer(line, text).map_err(|_| CallError::Malformed)
}

/// Returns a routing field; an empty one counts as absent, as on the wire.
fn named(name: Option<&str>) -> Option<Cow<'_, str>> {
    name.filter(|name| !name.is_empty()).map(Cow::Borrowed)
}

impl Answer {
    /// Takes the line of an answer, in which these members were found. They have to be text;
    /// whether they are JSON within is seen by whoever reads them.
    fn new(
        line: Bytes,
        result: Option<Range<usize>>,
        error: Option<Range<usize>>,
    ) -> Result<Self, CallError> {
        let text = |span: &Range<usize>| std::str::from_utf8(line.get(span.clone())?).ok();
        let spans = [&result, &error].into_iter().flatten();
        if spans.map(text).any(|text| text.is_none()) {
            return Err(CallError::Unreadable);
        }
        let says_something = |span: &Range<usize>| text(span) != Some("null");
        Ok(Self {
            result: result.filter(says_something),
            error: error.filter(says_something),
            line,
        })
    }

    fn member(&self, span: Option<&Range<usize>>) -> Option<&str> {
        std::str::from_utf8(self.line.get(span?.clone())?).ok()
    }

    /// Returns the whole line.
    #[must_use]
    pub fn line(&self) -> &Bytes {
        &self.line
    }

    /// Returns the result, as the worker wrote it.
    #[must_use]
    pub fn result(&self) -> Option<&str> {
        self.member(self.result.as_ref())
    }

    /// Returns the error: one of [`crate::codes`], or the worker's as it wrote it.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.member(self.error.as_ref())
    }
}

impl CallEvent {
    fn of(line: Bytes) -> Result<Self, CallError> {
        let routing = scan(&line).map_err(|_| CallError::Unreadable)?;
        let (result, error) = (routing.result.clone(), routing.error.clone());
        match routing.kind() {
            MessageKind::Notification => Ok(Self::Notification(line)),
            MessageKind::Request => Ok(Self::Request(line)),
            MessageKind::Response | MessageKind::Invalid => {
                Answer::new(line, result, error).map(Self::Final)
            }
        }
    }
}

impl CallError {
    /// Tells whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Bus(fault) => fault.is_retryable(),
            Self::Malformed | Self::Unreadable => false,
        }
    }
}

impl Pools {
    /// Sends a request and returns what comes back.
    ///
    /// The request is written before this returns. Errors of routing come as the final answer,
    /// like a worker's own.
    ///
    /// # Errors
    ///
    /// [`CallError::Malformed`] for a call that is no JSON-RPC, and [`Fault::QueueFull`] when too
    /// much waits for every worker of the pool.
    pub fn call(&self, call: &Call) -> Result<CallStream, CallError> {
        let shared = &self.shared;
        let number = shared.lock().core.mint_call();
        // Written before the lock is taken again, which is for routing alone.
        let id = format_smolstr!("{number}");
        let line = call.line(&id)?;
        let now = shared.now();
        let mut inner = shared.lock();
        if let Some(pool) = &call.pool
            && inner.is_full(pool)
        {
            return Err(CallError::Bus(Fault::QueueFull));
        }
        let client = inner
            .core
            .open_client(ClientKind::Call)
            .map_err(CallError::Bus)?;
        inner.open_inbox(client);
        let stream = CallStream {
            shared: Arc::clone(shared),
            client,
            number,
            give_up: call.give_up.clone(),
            ended: false,
        };
        let start = LINE_START.len();
        let routing = Routing {
            id: Some(Id {
                kind: IdKind::Number,
                text: Cow::Borrowed(&id),
                span: start..start + id.len(),
            }),
            method: Some(Cow::Borrowed(&call.method)),
            session_id: named(call.session.as_deref()),
            pool: named(call.pool.as_deref()),
            ..Routing::default()
        };
        inner.route_call(now, client, &routing, &line);
        drop(inner);
        Ok(stream)
    }

    /// Waits until a pool has room for another call, if it ever had none.
    pub async fn room(&self, pool: &str) {
        loop {
            let notified = {
                let inner = self.shared.lock();
                if !inner.is_full(pool) {
                    return;
                }
                Arc::clone(&inner.room).notified_owned()
            };
            notified.await;
        }
    }
}

impl CallStream {
    /// Answers a request of the worker with a whole JSON-RPC line.
    ///
    /// # Errors
    ///
    /// [`CallError::Malformed`] if the line is no JSON object without a newline.
    pub fn respond(&self, line: &[u8]) -> Result<(), CallError> {
        if scan(line).is_err() || line.contains(&b'\n') {
            return Err(CallError::Malformed);
        }
        let now = self.shared.now();
        let client = self.client;
        let mut inner = self.shared.lock();
        let _ = inner.with_post(|core, post| core.client_says(now, client, line, post));
        Ok(())
    }

    /// Waits for the answer and lets everything else go by.
    ///
    /// # Errors
    ///
    /// [`CallError::Bus`] if the bus ended the call, and [`CallError::Unreadable`] if the answer is
    /// none.
    pub async fn finish(mut self) -> Result<Answer, CallError> {
        loop {
            match std::future::poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await {
                Some(Ok(CallEvent::Final(answer))) => return Ok(answer),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(CallError::Bus(Fault::ShuttingDown)),
            }
        }
    }

    fn poll_line(&self, cx: &Context<'_>) -> Poll<Result<Bytes, Fault>> {
        let limit = self.shared.limits.max_output_queue;
        let mut inner = self.shared.lock();
        let Some(inbox) = inner.inbox(self.client) else {
            return Poll::Ready(Err(Fault::ShuttingDown));
        };
        if inbox.bytes as u64 > limit {
            return Poll::Ready(Err(Fault::TooSlow));
        }
        if let Some(line) = inbox.lines.pop_front() {
            inbox.bytes -= line.len();
            return Poll::Ready(Ok(line));
        }
        if self.shared.over.is_cancelled() {
            return Poll::Ready(Err(Fault::ShuttingDown));
        }
        inbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Stream for CallStream {
    type Item = Result<CallEvent, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let line = match std::task::ready!(self.poll_line(cx)) {
            Ok(line) => line,
            Err(fault) => {
                self.ended = true;
                return Poll::Ready(Some(Err(CallError::Bus(fault))));
            }
        };
        let event = CallEvent::of(line);
        self.ended = !matches!(
            event,
            Ok(CallEvent::Notification(_) | CallEvent::Request(_))
        );
        Poll::Ready(Some(event))
    }
}

impl Drop for CallStream {
    fn drop(&mut self) {
        let client = self.client;
        let farewell = match self.ended {
            true => None,
            false => std::mem::take(&mut self.give_up).line(self.number),
        };
        let mut inner = self.shared.lock();
        if let Some(line) = farewell {
            inner.with_post(|core, post| core.follow_up(client, line.as_bytes(), post));
        }
        inner.close_inbox(client);
    }
}
