//! A limit on how long a handler may take.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agentbus_protocol::Text;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service};

use crate::Error;
use crate::handler::{Handler, Reply, Request};

/// Answers with `AGENT_TIMEOUT` and drops the handler's future when it takes too long.
#[derive(Debug, Clone, Copy)]
pub struct Timeout(Duration);

impl Timeout {
    /// Allows a handler this long.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self(limit)
    }
}

impl<S> Layer<S> for Timeout {
    type Service = TimeoutService<S>;

    fn layer(&self, inner: S) -> TimeoutService<S> {
        TimeoutService {
            inner,
            limit: self.0,
        }
    }
}

/// The service of [`Timeout`].
#[derive(Debug, Clone)]
pub struct TimeoutService<S> {
    inner: S,
    limit: Duration,
}

impl<S: Handler> Service<Request> for TimeoutService<S> {
    type Response = Reply;
    type Error = Error;
    type Future = Timed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let target = agentbus_protocol::copied(&request.envelope().to);
        Timed {
            handled: self.inner.call(request),
            after: self.limit,
            sleep: None,
            target,
        }
    }
}

pin_project! {
    /// The future of [`TimeoutService`].
    #[derive(Debug)]
    pub struct Timed<F> {
        #[pin]
        handled: F,
        after: Duration,
        // Set up only when the handler has to wait; most never do, so it is kept out of line.
        sleep: Option<Pin<Box<Sleep>>>,
        target: Text,
    }
}

impl<F: Future<Output = Result<Reply, Error>>> Future for Timed<F> {
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(outcome) = this.handled.poll(cx) {
            return Poll::Ready(outcome);
        }
        let after = *this.after;
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(after)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(Error::Timeout {
            target: this.target.to_string(),
            after,
        }))
    }
}
