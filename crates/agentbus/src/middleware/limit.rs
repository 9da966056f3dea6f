//! Limits on how many requests a handler takes.

use std::future::{Ready, ready};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};

use agentbus_protocol::{ErrorCode, ErrorPayload};
use agentbus_transport::BoxFuture;
use futures_util::future::Either;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use crate::Error;
use crate::handler::{Handler, Reply, Request};

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

impl<S> Layer<S> for ConcurrencyLimit {
    type Service = ConcurrencyLimitService<S>;

    fn layer(&self, inner: S) -> ConcurrencyLimitService<S> {
        ConcurrencyLimitService {
            inner,
            permits: Arc::new(Semaphore::new(self.0)),
        }
    }
}

/// The service of [`ConcurrencyLimit`].
#[derive(Debug, Clone)]
pub struct ConcurrencyLimitService<S> {
    inner: S,
    permits: Arc<Semaphore>,
}

impl<S> Service<Request> for ConcurrencyLimitService<S>
where
    S: Handler,
    S::Future: Send + 'static,
{
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

impl<S> Layer<S> for RateLimit {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> RateLimitService<S> {
        RateLimitService {
            inner,
            limiter: Arc::clone(&self.0),
        }
    }
}

/// The service of [`RateLimit`].
#[derive(Debug, Clone)]
pub struct RateLimitService<S> {
    inner: S,
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl<S: Handler> Service<Request> for RateLimitService<S> {
    type Response = Reply;
    type Error = Error;
    type Future = Either<Ready<Result<Reply, Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // What expired is only told of; it must not cost what is alive its place.
        if request.is_late() {
            return Either::Right(self.inner.call(request));
        }
        let Err(until) = self.limiter.check() else {
            return Either::Right(self.inner.call(request));
        };
        let wait = until.wait_time_from(DefaultClock::default().now());
        let message = format!("too many requests; try again in {} ms", wait.as_millis());
        let payload = ErrorPayload::new(ErrorCode::BackpressureDrop, message);
        Either::Left(ready(Err(Error::Remote(payload))))
    }
}
