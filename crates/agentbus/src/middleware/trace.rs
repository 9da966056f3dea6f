//! Gives every request a W3C trace context.

use std::task::{Context, Poll};

use tower::{Layer, Service};
use tracing::Instrument;
use tracing::instrument::Instrumented;

use crate::current::Within;
use crate::handler::{Handler, Reply, Request};
use crate::telemetry::continue_trace;
use crate::{Error, current};

/// Continues the trace of a request, or begins one, so that the calls that the handler makes
/// belong to it; and opens a `tracing` span around the handler.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace;

impl<S> Layer<S> for Trace {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> TraceService<S> {
        TraceService(inner)
    }
}

/// The service of [`Trace`].
#[derive(Debug, Clone)]
pub struct TraceService<S>(S);

impl<S: Handler> Service<Request> for TraceService<S> {
    type Response = Reply;
    type Error = Error;
    type Future = Instrumented<Within<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // A bus that collects spans has begun the handler's span, which its calls belong to.
        let request = match request.bus().inner().spans {
            Some(_) => request,
            None => request.map_envelope(|envelope| {
                continue_trace(envelope);
            }),
        };
        let envelope = request.envelope();
        let span = tracing::info_span!("handle", subject = %request.subject(),
            event_id = %envelope.event_id, trace_id = %envelope.context.trace_id,
            span_id = %envelope.context.span_id, session_id = %envelope.context.session_id);
        // Calls that the handler makes inherit from the changed request.
        let handled = self.0.call(request.clone());
        current::handling(request, handled).instrument(span)
    }
}
