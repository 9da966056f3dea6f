//! Turns a panic of a handler into an error reply.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};

use agentbus_protocol::EventId;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::Error;
use crate::handler::{Handler, Reply, Request};

/// Answers a panicking handler's caller and logs the panic with its backtrace.
///
/// Every bus has one outside of all other layers; add another one further in to let the layers
/// outside of it see a panic as an ordinary error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recover;

impl<S> Layer<S> for Recover {
    type Service = RecoverService<S>;

    fn layer(&self, inner: S) -> RecoverService<S> {
        watch_panics();
        RecoverService(inner)
    }
}

/// The service of [`Recover`].
#[derive(Debug, Clone)]
pub struct RecoverService<S>(S);

impl<S: Handler> Service<Request> for RecoverService<S> {
    type Response = Reply;
    type Error = Error;
    type Future = Recovering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // Only the id is kept: a reference to the request would be one more to count per message.
        let event_id = request.envelope().event_id.clone();
        let (running, panic) = match guarded(|| self.0.call(request)) {
            Ok(running) => (Some(running), None),
            Err(panic) => (None, Some(panic)),
        };
        Recovering {
            running,
            panic,
            event_id,
        }
    }
}

pin_project! {
    /// The future of [`RecoverService`].
    pub struct Recovering<F> {
        #[pin]
        running: Option<F>,
        // Set when the call itself panicked, before there was a future.
        panic: Option<Box<Panic>>,
        event_id: EventId,
    }
}

impl<F: Future<Output = Result<Reply, Error>>> Future for Recovering<F> {
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let panic = match (this.running.as_mut().as_pin_mut(), this.panic.take()) {
            (Some(running), _) => match guarded(|| running.poll(cx)) {
                Ok(poll) => return poll,
                Err(panic) => panic,
            },
            (None, Some(panic)) => panic,
            (None, None) => return Poll::Pending,
        };
        // The broken future is dropped here, so that nobody polls it again.
        this.running.set(None);
        tracing::error!(event_id = %this.event_id, panic = %panic.message,
            backtrace = %panic.backtrace, "handler panicked");
        Poll::Ready(Err(Error::agent(format!(
            "handler panicked: {}",
            panic.message
        ))))
    }
}

impl<F> std::fmt::Debug for Recovering<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovering")
            .field("event_id", &self.event_id)
            .finish_non_exhaustive()
    }
}

struct Panic {
    message: String,
    backtrace: String,
}

thread_local! {
    /// Whether this thread is inside a handler, so that its panic is ours to report.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static BACKTRACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a step of a handler and catches its panic.
fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, Box<Panic>> {
    let outer = GUARDED.replace(true);
    // Nothing of ours is borrowed across the step, and the handler is not touched afterwards.
    let result = catch_unwind(AssertUnwindSafe(step));
    GUARDED.set(outer);
    result.map_err(|payload| {
        Box::new(Panic {
            message: message(payload.as_ref()),
            backtrace: BACKTRACE.take().unwrap_or_default(),
        })
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(owned)
        .unwrap_or("a value that is not text")
        .to_owned()
}

/// Keeps the backtrace of a handler's panic, which is gone by the time it is caught. Panics
/// elsewhere go to the hook that was there before.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                return previous(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let trace = format!("at {place}\n{}", Backtrace::force_capture());
            BACKTRACE.replace(Some(trace));
        }));
    });
}
