//! A limit on how long a handler may take.

use std::task::{Context, Poll};
use std::time::Duration;

use agentbus_transport::BoxFuture;
use tower::{Layer, Service};

use crate::Error;
use crate::handler::{HandlerService, Reply, Request};

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

impl Layer<HandlerService> for Timeout {
    type Service = TimeoutService;

    fn layer(&self, inner: HandlerService) -> TimeoutService {
        TimeoutService {
            inner,
            limit: self.0,
        }
    }
}

/// The service of [`Timeout`].
#[derive(Debug, Clone)]
pub struct TimeoutService {
    inner: HandlerService,
    limit: Duration,
}

impl Service<Request> for TimeoutService {
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let after = self.limit;
        let target = request.envelope().to.to_string();
        let handled = self.inner.call(request);
        Box::pin(async move {
            let late = |_| Error::Timeout { target, after };
            tokio::time::timeout(after, handled).await.map_err(late)?
        })
    }
}
