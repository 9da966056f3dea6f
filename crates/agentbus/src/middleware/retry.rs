//! Trying again.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use agentbus_transport::BoxFuture;
use rand::RngExt;
use tower::{Layer, Service, ServiceExt};

use crate::handler::{Handler, Reply, Request};
use crate::{Error, limits};

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// Always up to the same.
    Constant(Duration),
    /// Twice as long each time, up to a maximum.
    Exponential {
        /// Before the second attempt.
        base: Duration,
        /// Never longer than this.
        max: Duration,
    },
}

impl Backoff {
    /// The longest delay after this many attempts. The real one is drawn between zero and it
    /// ("full jitter"), so that callers who failed together do not come back together.
    #[must_use]
    pub fn ceiling(&self, attempts: u32) -> Duration {
        match *self {
            Self::Constant(delay) => delay,
            Self::Exponential { base, max } => {
                let doublings = attempts.saturating_sub(1).min(31);
                base.saturating_mul(1 << doublings).min(max)
            }
        }
    }

    fn draw(&self, attempts: u32) -> Duration {
        self.ceiling(attempts).mul_f64(rand::rng().random::<f64>())
    }
}

type Predicate = Arc<dyn Fn(&Error) -> bool + Send + Sync>;

/// Runs a handler again when it fails with an error that may pass.
///
/// Each attempt after the first carries its number in the metadata key `acp.retry.attempt`. A
/// stream that has sent frames is never tried again, because its caller would see them twice.
#[derive(Clone)]
pub struct Retry {
    attempts_max: u32,
    backoff: Backoff,
    is_retryable: Predicate,
}

impl Default for Retry {
    fn default() -> Self {
        let (base, max) = (Duration::from_millis(50), Duration::from_secs(2));
        Self {
            attempts_max: 3,
            backoff: Backoff::Exponential { base, max },
            is_retryable: Arc::new(Error::is_retryable),
        }
    }
}

impl Retry {
    /// Makes at most this many attempts in all; within 1 and
    /// [`limits::RETRY_ATTEMPTS_MAX`].
    #[must_use]
    pub fn attempts(attempts_max: u32) -> Self {
        let attempts_max = attempts_max.clamp(1, limits::RETRY_ATTEMPTS_MAX);
        Self {
            attempts_max,
            ..Self::default()
        }
    }

    /// Waits like this between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Tries again after these errors, instead of those that say so themselves.
    #[must_use]
    pub fn when(mut self, is_retryable: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        self.is_retryable = Arc::new(is_retryable);
        self
    }
}

impl std::fmt::Debug for Retry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retry")
            .field("attempts_max", &self.attempts_max)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for Retry {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> RetryService<S> {
        RetryService {
            inner,
            policy: self.clone(),
        }
    }
}

/// The service of [`Retry`].
#[derive(Debug, Clone)]
pub struct RetryService<S> {
    inner: S,
    policy: Retry,
}

impl<S> Service<Request> for RetryService<S>
where
    S: Handler + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The clone is ready by contract only once asked, so the one that was asked is used.
        let fresh = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, fresh);
        Box::pin(run(ready, self.policy.clone(), request))
    }
}

async fn run<S: Handler>(mut inner: S, policy: Retry, request: Request) -> Result<Reply, Error> {
    let mut first = None;
    for attempt in 1.. {
        let this = if attempt == 1 {
            request.clone()
        } else {
            request.for_attempt(attempt)
        };
        let error = match inner.ready().await?.call(this).await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        let again = attempt < policy.attempts_max
            && (policy.is_retryable)(&error)
            // What came too late does not become timely.
            && !matches!(error, Error::Expired)
            && !request.has_sent_frames();
        if !again {
            return Err(match first {
                None => error,
                Some(first) => Error::Exhausted {
                    attempts: attempt,
                    first,
                    last: Box::new(error),
                },
            });
        }
        first.get_or_insert(Box::new(error));
        tokio::time::sleep(policy.backoff.draw(attempt)).await;
    }
    Ok(Reply::Empty)
}
