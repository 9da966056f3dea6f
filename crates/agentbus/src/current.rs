//! The request that the running task is handling.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use agentbus_protocol::Envelope;
use pin_project_lite::pin_project;

use crate::Request;

thread_local! {
    /// Set while a handler's future is being polled on this thread.
    static CURRENT: Cell<Option<Request>> = const { Cell::new(None) };
}

/// Runs a handler so that the calls it makes inherit the session and trace of `request`.
pub(crate) const fn handling<F>(request: Request, handled: F) -> Within<F> {
    Within {
        handled,
        request: Some(request),
    }
}

pin_project! {
    /// A future during whose polls a request is the current one.
    #[derive(Debug)]
    pub struct Within<F> {
        #[pin]
        handled: F,
        // In the thread's own place during a poll, here otherwise.
        request: Option<Request>,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _scope = enter(this.request);
        this.handled.poll(cx)
    }
}

/// Makes a request the current one of this thread until the scope ends; it is moved there and
/// back, so that nothing is counted.
pub(crate) fn enter(request: &mut Option<Request>) -> Scope<'_> {
    let outer = CURRENT.replace(request.take());
    Scope { outer, request }
}

/// The time during which a request is the current one. Puts both requests back where they were, also when the handler panics.
pub(crate) struct Scope<'a> {
    outer: Option<Request>,
    request: &'a mut Option<Request>,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        *self.request = CURRENT.replace(self.outer.take());
    }
}

/// Looks at the current request, if there is one.
fn with_current<R>(look: impl FnOnce(&Request) -> R) -> Option<R> {
    let request = CURRENT.take()?;
    let seen = look(&request);
    CURRENT.set(Some(request));
    Some(seen)
}

/// Whether a handler is being polled on this thread.
pub(crate) fn is_handling() -> bool {
    with_current(|_| ()).is_some()
}

/// Fills the empty context fields of an outgoing envelope from the request being handled, if any.
pub(crate) fn lend_context(outgoing: &mut Envelope) {
    // Outside a handler there is nothing to inherit, which is no error.
    let _ = with_current(|request| outgoing.inherit_call_context(request.envelope()));
}

/// The envelope that the current task is handling.
///
/// Tasks spawned by a handler do not see it; hand them what they need.
#[must_use]
pub fn current() -> Option<Envelope> {
    with_current(|request| request.envelope().clone())
}
