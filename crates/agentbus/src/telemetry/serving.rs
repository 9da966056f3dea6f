//! Spans of what a gateway serves: requests of another protocol, before there is any envelope.

use std::sync::Arc;

use agentbus_protocol::TraceParent;

use super::{Failure, OpenSpan, Span, SpanKind, SpanSink};
use crate::mint;

/// Begins the spans of a gateway; they go where those of its bus go ([`Bus::spans`]).
///
/// Cloning gives another handle to the same sink. The default one has none, and costs nothing.
///
/// [`Bus::spans`]: crate::Bus::spans
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<dyn SpanSink>>);

/// What is told of a request when it begins to be served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// The name of the span.
    pub name: String,
    /// Attributes, named by the OpenTelemetry conventions.
    pub attributes: Vec<(&'static str, String)>,
    /// See [`Span::link`].
    pub link: Option<TraceParent>,
}

impl Spans {
    pub(crate) fn of(sink: Option<&Arc<dyn SpanSink>>) -> Self {
        Self(sink.cloned())
    }

    /// Begins a span below the one that caused it, or the first one of a trace. What there is to
    /// tell is asked for only if somebody is told.
    #[must_use]
    pub fn serve(&self, parent: Option<TraceParent>, about: impl FnOnce() -> Served) -> ServerSpan {
        let untold = ServerSpan {
            context: parent,
            open: OpenSpan::default(),
        };
        let Some(sink) = &self.0 else {
            return untold;
        };
        let context = parent.map_or_else(mint::trace, |parent| parent.child(mint::span_id()));
        // Whoever began the trace has decided for all of it.
        if !context.is_sampled() {
            return untold;
        }
        let about = about();
        let span = Span {
            name: about.name,
            attributes: about.attributes,
            link: about.link,
            ..Span::begun(SpanKind::Server, context, parent)
        };
        ServerSpan {
            context: Some(context),
            open: OpenSpan::open(sink, span),
        }
    }
}

/// The span of a request that is being served. One that is dropped ends as cancelled.
#[derive(Debug, Default)]
pub struct ServerSpan {
    context: Option<TraceParent>,
    open: OpenSpan,
}

impl ServerSpan {
    /// What the request causes belongs to this: the span itself, or where nobody is told of it the
    /// one that caused it, if any.
    #[must_use]
    pub const fn context(&self) -> Option<TraceParent> {
        self.context
    }

    /// Whether somebody is told of it.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        self.open.0.is_some()
    }

    /// Adds an attribute.
    pub fn note(&mut self, key: &'static str, value: &str) {
        self.open.note(key, value);
    }

    /// Ends the span, with why it failed if it did.
    pub fn end(mut self, failure: Option<Failure>) {
        if let Some(open) = self.open.0.take() {
            open.finish(failure);
        }
    }
}
