//! Limits on how many requests a handler takes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};

use agentbus_protocol::{ErrorCode, ErrorPayload};
use agentbus_transport::BoxFuture;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use crate::Error;
use crate::handler::{HandlerService, Reply, Request};

/// Lets at most this many requests of each handler run at a time; others wait.
///
/// The limit is each handler's own: one that all shared would let a handler that calls another
/// wait for the place that it holds itself.
#[derive(Debug, Clone, Copy)]
pub struct ConcurrencyLimit(usize);

impl ConcurrencyLimit {
    /// Sets the limit.
    #[must_use]
    pub fn new(requests_max: usize) -> Self {
        Self(requests_max.clamp(1, Semaphore::MAX_PERMITS))
    }
}

impl Layer<HandlerService> for ConcurrencyLimit {
    type Service = ConcurrencyLimitService;

    fn layer(&self, inner: HandlerService) -> ConcurrencyLimitService {
        ConcurrencyLimitService {
            inner,
            permits: Arc::new(Semaphore::new(self.0)),
        }
    }
}

/// The service of [`ConcurrencyLimit`].
#[derive(Debug, Clone)]
pub struct ConcurrencyLimitService {
    inner: HandlerService,
    permits: Arc<Semaphore>,
}

impl Service<Request> for ConcurrencyLimitService {
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let permits = Arc::clone(&self.permits);
        let handled = self.inner.call(request);
        Box::pin(async move {
            // The semaphore is never closed. The handler's future does nothing before it is
            // polled, so waiting here is waiting before the handler.
            let _permit = permits.acquire().await;
            handled.await
        })
    }
}

/// Takes requests at most at this rate and refuses the others at once with `BACKPRESSURE_DROP`,
/// saying when to try again.
#[derive(Debug, Clone)]
pub struct RateLimit(Arc<DefaultDirectRateLimiter>);

impl RateLimit {
    /// Allows so many requests a second, and the same number in one burst.
    #[must_use]
    pub fn per_second(rate: NonZeroU32) -> Self {
        Self(Arc::new(RateLimiter::direct(Quota::per_second(rate))))
    }

    /// Allows so many requests a second, and so many in one burst.
    #[must_use]
    pub fn with_burst(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        Self(Arc::new(RateLimiter::direct(
            Quota::per_second(rate).allow_burst(burst),
        )))
    }
}

impl Layer<HandlerService> for RateLimit {
    type Service = RateLimitService;

    fn layer(&self, inner: HandlerService) -> RateLimitService {
        RateLimitService {
            inner,
            limiter: Arc::clone(&self.0),
        }
    }
}

/// The service of [`RateLimit`].
#[derive(Debug, Clone)]
pub struct RateLimitService {
    inner: HandlerService,
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl Service<Request> for RateLimitService {
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.limiter.check() {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(until) => {
                let wait = until.wait_time_from(DefaultClock::default().now());
                let message = format!("too many requests; try again in {} ms", wait.as_millis());
                let payload = ErrorPayload::new(ErrorCode::BackpressureDrop, message);
                Box::pin(std::future::ready(Err(Error::Remote(payload))))
            }
        }
    }
}
