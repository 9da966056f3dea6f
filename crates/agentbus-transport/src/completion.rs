//! A future that is usually there already.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The result of an operation that most often completes at once.
///
/// A transport trait needs boxed futures to be usable as `dyn Transport`; this type spares the
/// box whenever there is nothing to wait for, which in memory is nearly always.
#[must_use = "an operation that waits goes on only while it is awaited"]
pub enum Completion<T> {
    /// The result; `None` once it was taken.
    Ready(Option<T>),
    /// The operation waits, for a full queue or for a broker.
    Waiting(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T> Completion<T> {
    /// The operation is over.
    pub const fn ready(value: T) -> Self {
        Self::Ready(Some(value))
    }

    /// The operation goes on.
    pub fn waiting(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Waiting(Box::pin(future))
    }
}

impl<T: Unpin> Future for Completion<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut *self {
            // A future polled after completion may do anything but lie; staying pending is safe.
            Self::Ready(value) => value.take().map_or(Poll::Pending, Poll::Ready),
            Self::Waiting(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Completion::Ready",
            Self::Waiting(_) => "Completion::Waiting",
        })
    }
}
