//! What is told of a span.

use std::time::SystemTime;

use agentbus_protocol::{Envelope, TraceParent};

use super::id;
use crate::Error;

/// One finished piece of work.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Span {
    /// What was done, to whom.
    pub name: String,
    /// Which side did it.
    pub kind: SpanKind,
    /// The trace, and this span in it.
    pub context: TraceParent,
    /// The span that caused this one, perhaps in another process.
    pub parent: Option<TraceParent>,
    /// Another span that has to do with this one, and did not cause it: that of the HTTP request
    /// in which a message came that names its parent itself.
    pub link: Option<TraceParent>,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Attributes, named by the OpenTelemetry conventions.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// The side of a message that a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Makes a call and waits for its answer.
    Client,
    /// Publishes an event.
    Producer,
    /// Works on a message.
    Consumer,
    /// Serves a request of another protocol.
    Server,
}

impl Span {
    /// A span that begins now, of which nothing is told yet.
    pub(super) fn begun(kind: SpanKind, context: TraceParent, parent: Option<TraceParent>) -> Self {
        let now = SystemTime::now();
        Self {
            name: String::new(),
            kind,
            context,
            parent,
            link: None,
            started: now,
            ended: now,
            attributes: Vec::new(),
            failure: None,
        }
    }
}

/// Why a piece of work failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The `error.type`: the code that a caller hears.
    pub kind: String,
    /// The sentence.
    pub message: String,
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        Self {
            kind: error.code().to_string(),
            message: error.to_string(),
        }
    }

    pub(super) fn cancelled() -> Self {
        Self {
            kind: "CANCELLED".to_owned(),
            message: "whoever waited for it gave up".to_owned(),
        }
    }
}

/// What an envelope says of its span.
pub(super) fn attributes(kind: SpanKind, envelope: &Envelope) -> Vec<(&'static str, String)> {
    let operation = match kind {
        SpanKind::Client | SpanKind::Producer => "send",
        SpanKind::Consumer | SpanKind::Server => "process",
    };
    let mut attributes = vec![
        ("messaging.system", "agentbus".to_owned()),
        ("messaging.operation.name", operation.to_owned()),
        ("messaging.operation.type", operation.to_owned()),
    ];
    if kind == SpanKind::Client {
        attributes.push(("gen_ai.operation.name", "invoke_agent".to_owned()));
        attributes.push(("gen_ai.agent.name", envelope.to.to_string()));
    }
    let mut add = |key, value: Option<String>| attributes.extend(value.map(|value| (key, value)));
    let session = &envelope.context.session_id;
    let payload = envelope.payload.as_ref();
    add("messaging.message.id", id(&envelope.event_id));
    add(
        "messaging.message.conversation_id",
        id(&envelope.correlation_id),
    );
    add(
        "gen_ai.conversation.id",
        (!session.is_empty()).then(|| session.to_string()),
    );
    add(
        "messaging.message.body.size",
        payload.map(|payload| payload.as_str().len().to_string()),
    );
    attributes
}
