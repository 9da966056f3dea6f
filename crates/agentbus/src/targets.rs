//! The list of what a bus serves, with its counters.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;

use agentbus_protocol::{Subject, Text};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Error};

/// How a handler answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// With one reply.
    Invoke,
    /// With a stream of frames.
    Stream,
    /// Not at all: it handles events.
    Events,
}

impl TargetKind {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Stream => "stream",
            Self::Events => "events",
        }
    }
}

/// What one handler has done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetInfo {
    /// The target, or the pattern of events.
    pub name: String,
    /// How it answers.
    pub kind: TargetKind,
    /// With whom it shares the work.
    pub group: Option<String>,
    /// Messages being worked on.
    pub in_flight: u64,
    /// Messages handled with success.
    pub handled: u64,
    /// Messages whose handler failed.
    pub failed: u64,
    /// Requests that their caller cancelled.
    pub cancelled: u64,
    /// Messages that expired in the queue.
    pub expired: u64,
}

/// Tells one worker to stop. Watched with every message, so it is one load in the usual case.
#[derive(Debug, Default)]
pub(crate) struct StopSignal {
    given: AtomicBool,
    worker: AtomicWaker,
}

impl StopSignal {
    fn give(&self) {
        self.given.store(true, Ordering::Release);
        self.worker.wake();
    }

    /// Whether the signal was given.
    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    /// Whether the signal was given; if not, the worker is woken when it is.
    pub(crate) fn is_given_or_watch(&self, cx: &Context<'_>) -> bool {
        // Looked at after the registration, so that a signal in between is not missed.
        self.worker.register(cx.waker());
        self.is_given()
    }
}

/// One registered handler.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: Text,
    pub(crate) kind: TargetKind,
    pub(crate) group: Option<Text>,
    /// Ends the worker once its queue is empty.
    pub(crate) stop: StopSignal,
    /// Fires when the worker has ended.
    pub(crate) over: CancellationToken,
    worker: OnceLock<AbortHandle>,
    /// Counted by the worker alone.
    begun: AtomicU64,
    handled: AtomicU64,
    failed: AtomicU64,
    /// Begun, and dropped before the end.
    abandoned: AtomicU64,
    /// Never begun.
    cancelled: AtomicU64,
    expired: AtomicU64,
}

impl Target {
    pub(crate) fn new(name: Text, kind: TargetKind, group: Option<Text>) -> Self {
        Self {
            name,
            kind,
            group,
            stop: StopSignal::default(),
            over: CancellationToken::new(),
            worker: OnceLock::new(),
            begun: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_worker(&self, worker: AbortHandle) {
        // Called once, right after the worker was spawned.
        let _ = self.worker.set(worker);
    }

    /// Begins a message. Only the worker does that, so this needs no atomic addition.
    pub(crate) fn begin(&self) {
        let begun = self.begun.load(Ordering::Relaxed);
        self.begun.store(begun.wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn end(&self, success: bool) {
        let counter = if success { &self.handled } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a message whose handler was dropped.
    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message that was cancelled before it began.
    pub(crate) fn cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    fn info(&self) -> TargetInfo {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // The ends before the beginnings, so that no message ends that has not begun.
        let (handled, failed) = (read(&self.handled), read(&self.failed));
        let abandoned = read(&self.abandoned);
        TargetInfo {
            name: self.name.to_string(),
            kind: self.kind,
            group: self.group.as_ref().map(ToString::to_string),
            in_flight: read(&self.begun).saturating_sub(handled + failed + abandoned),
            handled,
            failed,
            cancelled: read(&self.cancelled) + abandoned,
            expired: read(&self.expired),
        }
    }
}

/// All handlers of one bus.
#[derive(Debug, Default)]
pub(crate) struct Targets(Mutex<Vec<Arc<Target>>>);

impl Targets {
    /// Adds a handler, unless its target is served in the other way on this bus already: callers
    /// could not know which of the two they get.
    pub(crate) fn add(&self, target: Target) -> Result<Arc<Target>, Error> {
        let mut all = self.0.lock();
        let calls = |kind| kind != TargetKind::Events;
        let clash = all.iter().find(|present| {
            present.name == target.name
                && present.kind != target.kind
                && calls(present.kind)
                && calls(target.kind)
        });
        if let Some(present) = clash {
            return Err(Error::MixedTarget {
                target: target.name.to_string(),
                present: present.kind.as_str(),
                wanted: target.kind.as_str(),
            });
        }
        let target = Arc::new(target);
        all.push(Arc::clone(&target));
        Ok(target)
    }

    pub(crate) fn remove(&self, target: &Arc<Target>) {
        self.0
            .lock()
            .retain(|present| !Arc::ptr_eq(present, target));
    }

    /// Whether requests on this subject are served here.
    pub(crate) fn serves(&self, bus: &Bus, subject: &Subject) -> bool {
        let Some(name) = bus.subjects().target_of(subject) else {
            return false;
        };
        self.0.lock().iter().any(|target| target.name == name)
    }

    pub(crate) fn list(&self) -> Vec<TargetInfo> {
        self.0.lock().iter().map(|target| target.info()).collect()
    }

    pub(crate) fn stop_all(&self) {
        self.0.lock().iter().for_each(|target| target.stop.give());
    }

    pub(crate) fn abort_all(&self) {
        for worker in self
            .0
            .lock()
            .drain(..)
            .filter_map(|target| target.worker.get().cloned())
        {
            worker.abort();
        }
    }
}

/// A registered handler. It stays registered when this is dropped; call
/// [`stop`](Registration::stop) to end it.
#[derive(Debug)]
pub struct Registration {
    target: Arc<Target>,
}

impl Registration {
    pub(crate) const fn new(target: Arc<Target>) -> Self {
        Self { target }
    }

    /// Takes no new messages; what is queued and what runs comes to its end.
    pub fn stop(&self) {
        self.target.stop.give();
    }

    /// Waits until the handler gets no more messages: it was stopped, or its transport closed.
    pub async fn ended(&self) {
        self.target.over.cancelled().await;
    }

    /// What the handler has done so far.
    #[must_use]
    pub fn info(&self) -> TargetInfo {
        self.target.info()
    }
}
