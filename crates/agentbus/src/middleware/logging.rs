//! One structured line per request.

use std::task::{Context, Poll};
use std::time::Instant;

use agentbus_transport::BoxFuture;
use tower::{Layer, Service};

use crate::Error;
use crate::handler::{HandlerService, Reply, Request};

/// Logs each request once it is handled: at `debug` when it went well, at `error` when not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logging;

impl Layer<HandlerService> for Logging {
    type Service = LoggingService;

    fn layer(&self, inner: HandlerService) -> LoggingService {
        LoggingService(inner)
    }
}

/// The service of [`Logging`].
#[derive(Debug, Clone)]
pub struct LoggingService(HandlerService);

impl Service<Request> for LoggingService {
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (message, attempt) = (request.message().clone(), request.attempt());
        let handled = self.0.call(request);
        Box::pin(async move {
            let begun = Instant::now();
            let outcome = handled.await;
            let duration_ms = begun.elapsed().as_secs_f64() * 1000.0;
            let (subject, envelope) = (&message.subject, &message.envelope);
            let (event_id, context) = (&envelope.event_id, &envelope.context);
            let (trace_id, session_id) = (&context.trace_id, &context.session_id);
            match &outcome {
                Ok(_) => tracing::debug!(%subject, %event_id, %trace_id, %session_id, attempt,
                    duration_ms, "handled"),
                Err(error) => tracing::error!(%subject, %event_id, %trace_id, %session_id, attempt,
                    duration_ms, code = %error.code(), %error, "handler failed"),
            }
            outcome
        })
    }
}
