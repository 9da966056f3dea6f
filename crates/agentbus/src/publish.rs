//! Publishing events.

use std::cell::Cell;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use agentbus_protocol::{Stamp, Text};
use agentbus_transport::{Completion, PublishOptions, Receipt, TransportError};
use tokio::task::coop;

use crate::bus::PreparedPayload;
use crate::draft::{Draft, Finished, Purpose, draft_setters};
use crate::telemetry::OpenSpan;
use crate::{Bus, Error};

/// An event about to be published.
#[derive(Debug)]
#[must_use = "nothing is published until this is awaited"]
pub struct Publish<'a> {
    draft: Draft<'a>,
    options: PublishOptions,
}

impl<'a> Publish<'a> {
    pub(crate) fn new(bus: &'a Bus, event_type: Text, payload: PreparedPayload) -> Self {
        Self {
            draft: Draft::new(bus, Purpose::Event(event_type), payload),
            options: PublishOptions::default(),
        }
    }

    draft_setters!();

    /// Waits for the strongest confirmation that the transport has: in memory, that every
    /// subscriber has acknowledged the event.
    pub const fn confirm(mut self) -> Self {
        self.options.confirm = true;
        self
    }

    /// Names this publish, so that sending it again after a doubtful outcome stores it once.
    pub fn idempotency_key(mut self, key: impl Into<Text>) -> Self {
        self.options.idempotency_key = Some(key.into());
        self
    }

    /// Takes id and time from elsewhere: for whoever tells of something that has both already, and
    /// may tell of it twice.
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        let envelope = self.draft.envelope_mut();
        envelope.event_id = stamp.event_id;
        envelope.occurred_at = stamp.occurred_at;
        self
    }

    /// Fails when nobody subscribes.
    pub const fn require_subscriber(mut self) -> Self {
        self.options.require_responder = true;
        self
    }

    /// Says where replies are wanted.
    pub fn reply_to(mut self, subject: impl Into<Text>) -> Self {
        self.draft.envelope_mut().reply_to = subject.into();
        self
    }

    fn start(self) -> Result<Sent, Error> {
        let bus = self.draft.bus;
        let Finished { message, span, .. } = self.draft.finish(None)?;
        let completion = bus.transport().publish(message, self.options);
        Ok(Sent { completion, span })
    }
}

impl<'a> IntoFuture for Publish<'a> {
    type Output = Result<Receipt, Error>;
    type IntoFuture = Publishing;

    fn into_future(self) -> Publishing {
        Publishing(match self.start() {
            Ok(sent) => Progress::Sent(sent),
            Err(error) => Progress::Refused(Some(error)),
        })
    }
}

/// An event being published; waits only where the transport makes it wait.
#[derive(Debug)]
pub struct Publishing(Progress);

#[derive(Debug)]
enum Progress {
    Sent(Sent),
    Refused(Option<Error>),
}

#[derive(Debug)]
struct Sent {
    completion: Completion<Result<Receipt, TransportError>>,
    span: OpenSpan,
}

impl Future for Publishing {
    type Output = Result<Receipt, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let step = match is_step() {
            true => Some(ready!(coop::poll_proceed(cx))),
            false => None,
        };
        let outcome = match &mut self.0 {
            Progress::Sent(Sent { completion, span }) => {
                let outcome = ready!(Pin::new(completion).poll(cx)).map_err(Error::from);
                span.end(outcome.as_ref());
                outcome
            }
            Progress::Refused(error) => match error.take() {
                Some(error) => return Poll::Ready(Err(error)),
                None => return Poll::Pending,
            },
        };
        if let Some(step) = step {
            step.made_progress();
        }
        Poll::Ready(outcome)
    }
}

/// How many publishes are one step of their task.
const PUBLISHES_PER_STEP: u8 = 16;

/// Whether this publish ends a step of its task.
///
/// A publisher that never has to wait must still let others run: tokio interrupts a task after 128
/// steps. It has steps of microseconds in mind, and a publish takes a fifth of one. Were each a
/// step, a busy publisher would pause every 30 us and pay for the wake of a thread each time.
fn is_step() -> bool {
    thread_local!(static PUBLISHES: Cell<u8> = const { Cell::new(0) });
    let next = (PUBLISHES.get() + 1) % PUBLISHES_PER_STEP;
    PUBLISHES.set(next);
    next == 0
}
