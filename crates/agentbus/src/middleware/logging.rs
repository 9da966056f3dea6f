//! One structured line per request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::{Level, enabled};

use crate::Error;
use crate::handler::{Handler, Reply, Request};

/// Logs each request once it is handled: at `debug` when it went well, at `error` when not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logging;

impl<S> Layer<S> for Logging {
    type Service = LoggingService<S>;

    fn layer(&self, inner: S) -> LoggingService<S> {
        LoggingService(inner)
    }
}

/// The service of [`Logging`].
#[derive(Debug, Clone)]
pub struct LoggingService<S>(S);

impl<S: Handler> Service<Request> for LoggingService<S> {
    type Response = Reply;
    type Error = Error;
    type Future = Logged<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let line = enabled!(Level::ERROR).then(|| (request.clone(), Instant::now()));
        Logged {
            handled: self.0.call(request),
            line,
        }
    }
}

pin_project! {
    /// The future of [`LoggingService`].
    #[derive(Debug)]
    pub struct Logged<F> {
        #[pin]
        handled: F,
        // Nothing when nobody reads the log, which then costs no look at the clock.
        line: Option<(Request, Instant)>,
    }
}

impl<F: Future<Output = Result<Reply, Error>>> Future for Logged<F> {
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.handled.poll(cx));
        if let Some((request, begun)) = this.line.take() {
            log(&request, begun, &outcome);
        }
        Poll::Ready(outcome)
    }
}

fn log(request: &Request, begun: Instant, outcome: &Result<Reply, Error>) {
    let duration_ms = || begun.elapsed().as_secs_f64() * 1000.0;
    let (subject, envelope, attempt) = (request.subject(), request.envelope(), request.attempt());
    let (event_id, context) = (&envelope.event_id, &envelope.context);
    let (trace_id, session_id) = (&context.trace_id, &context.session_id);
    match outcome {
        Ok(_) => tracing::debug!(%subject, %event_id, %trace_id, %session_id, attempt,
            duration_ms = duration_ms(), "handled"),
        Err(error) => tracing::error!(%subject, %event_id, %trace_id, %session_id, attempt,
            duration_ms = duration_ms(), code = %error.code(), %error, "handler failed"),
    }
}
