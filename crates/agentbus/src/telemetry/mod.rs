//! Spans of what the bus does, for whoever collects them.
//!
//! A bus with a sink gives it one span for each call and each publish, from the side that makes it
//! (`invoke_agent {target}`, `send {type}`), and one for each message that a handler works on
//! (`process {target or pattern}`). Names and attributes are those of the OpenTelemetry conventions
//! for messaging and for GenAI agents. The W3C trace context travels in the envelope, so the spans
//! of caller, handler and nested calls are one trace, over every transport and between processes.
//! A gateway adds one for each request that it serves ([`Spans`]).
//!
//! A bus without a sink does nothing of this, and payloads are never recorded.

#[cfg(feature = "otlp")]
mod otlp;
mod serving;
mod span;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use agentbus_protocol::{Envelope, ErrorPayload, EventId, TraceParent};

#[cfg(feature = "otlp")]
pub use otlp::Otlp;
pub use serving::{Served, ServerSpan, Spans};
pub use span::{Failure, Span, SpanKind};

use crate::targets::{Target, TargetKind};
use crate::{Error, mint};

/// Where finished spans go. Called on hot paths: it must not block.
pub trait SpanSink: fmt::Debug + Send + Sync + 'static {
    /// Takes a span that has ended.
    fn ended(&self, span: Span);
}

/// Continues the trace of an envelope, or begins one. Returns where the envelope is now, and the
/// span it came from.
pub(crate) fn continue_trace(envelope: &mut Envelope) -> (TraceParent, Option<TraceParent>) {
    let parent = TraceParent::parse(&envelope.context.traceparent);
    let here = parent.map_or_else(mint::trace, |parent| parent.child(mint::span_id()));
    let context = envelope.context.edit();
    context.traceparent = here.text();
    context.trace_id = here.trace_id().into();
    context.span_id = here.span_id().into();
    (here, parent)
}

/// A span that has not ended, if anybody collects them. One that is dropped ends as cancelled.
#[derive(Debug, Default)]
pub(crate) struct OpenSpan(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    sink: Arc<dyn SpanSink>,
    begun: Instant,
    span: Span,
}

impl OpenSpan {
    /// Begins the span of a call, and puts it into the request's trace context.
    pub(crate) fn call(sink: Option<&Arc<dyn SpanSink>>, request: &mut Envelope) -> Self {
        Self::begin(sink, request, SpanKind::Client, |request| {
            format!("invoke_agent {}", request.to)
        })
    }

    /// Begins the span of a publish, and puts it into the event's trace context.
    pub(crate) fn publish(sink: Option<&Arc<dyn SpanSink>>, event: &mut Envelope) -> Self {
        Self::begin(sink, event, SpanKind::Producer, |event| {
            format!("send {}", event.event_type.as_str())
        })
    }

    /// Begins the span of a handler, and puts it into the trace context that its calls inherit.
    pub(crate) fn handler(
        sink: Option<&Arc<dyn SpanSink>>,
        target: &Target,
        message: &mut Envelope,
    ) -> Self {
        let mut span = Self::begin(sink, message, SpanKind::Consumer, |_| {
            format!("process {}", target.name)
        });
        if target.kind != TargetKind::Events {
            span.note("gen_ai.agent.name", &target.name);
        }
        if let Some(group) = &target.group {
            span.note("messaging.consumer.group.name", group);
        }
        span
    }

    fn begin(
        sink: Option<&Arc<dyn SpanSink>>,
        envelope: &mut Envelope,
        kind: SpanKind,
        name: impl FnOnce(&Envelope) -> String,
    ) -> Self {
        let Some(sink) = sink else {
            return Self(None);
        };
        let (context, parent) = continue_trace(envelope);
        // Whoever began the trace has decided for all of it.
        if !context.is_sampled() {
            return Self(None);
        }
        let span = Span {
            name: name(envelope),
            attributes: span::attributes(kind, envelope),
            ..Span::begun(kind, context, parent)
        };
        Self::open(sink, span)
    }

    fn open(sink: &Arc<dyn SpanSink>, span: Span) -> Self {
        Self(Some(Box::new(Open {
            sink: Arc::clone(sink),
            begun: Instant::now(),
            span,
        })))
    }

    /// Adds where the message goes.
    pub(crate) fn addressed(mut self, subject: &str) -> Self {
        self.note("messaging.destination.name", subject);
        self
    }

    fn note(&mut self, key: &'static str, value: &str) {
        if let Some(open) = &mut self.0 {
            open.span.attributes.push((key, value.to_owned()));
        }
    }

    /// Ends the span with its outcome.
    pub(crate) fn end<T>(&mut self, outcome: Result<T, &Error>) {
        if let Some(open) = self.0.take() {
            open.finish(outcome.err().map(Failure::of));
        }
    }
    /// Ends the span if this is the frame that ends the stream.
    pub(crate) fn end_with(&mut self, frame: &Envelope) {
        if self.0.is_some() && frame.is_final {
            match ErrorPayload::of(frame) {
                Some(error) => self.end::<()>(Err(&Error::Remote(error))),
                None => self.end(Ok(())),
            }
        }
    }
}

impl Open {
    fn finish(mut self: Box<Self>, failure: Option<Failure>) {
        // By the steady clock, so that no span ends before it began.
        self.span.ended = self.span.started + self.begun.elapsed();
        self.span.failure = failure;
        self.sink.ended(self.span);
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.finish(Some(Failure::cancelled()));
        }
    }
}

/// The text of an id that may be absent.
fn id(id: &EventId) -> Option<String> {
    let text = id.to_string();
    (!text.is_empty()).then_some(text)
}
