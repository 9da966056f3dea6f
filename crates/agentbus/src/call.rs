//! Calls that wait for one reply.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agentbus_protocol::{Envelope, ErrorPayload, Text};
use agentbus_transport::{
    BoxFuture, Completion, Message, PublishOptions, Receipt, Received, Subscription,
    TransportError, clock::after,
};
use tokio::time::Instant;

use crate::bus::PreparedPayload;
use crate::deadline::Deadline;
use crate::draft::{Draft, Purpose, draft_setters};
use crate::telemetry::OpenSpan;
use crate::{Bus, Error, cancel};

/// A request must find somebody at once, or its caller would wait for nothing.
pub(crate) const REQUEST: PublishOptions = PublishOptions {
    confirm: false,
    require_responder: true,
    idempotency_key: None,
};

/// A call of a target, about to be made.
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct Invoke<'a> {
    draft: Draft<'a>,
    timeout: Option<Duration>,
}

impl<'a> Invoke<'a> {
    pub(crate) fn new(bus: &'a Bus, target: Text, payload: PreparedPayload) -> Self {
        Self {
            draft: Draft::new(bus, Purpose::Call(target), payload),
            timeout: bus.inner().invoke_timeout,
        }
    }

    draft_setters!();

    /// Sets how long to wait.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits for as long as it takes.
    pub const fn no_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Sends on an envelope that came from elsewhere. What it says stays, also its id and its
    /// sender, and it goes to the target of this call, whomever it names; only an empty `to` is
    /// filled in.
    pub fn forward(mut self, envelope: Envelope) -> Self {
        self.draft.forward(envelope);
        self
    }

    /// Makes the call; what this returns waits for the reply. The request sets out at once where
    /// the carrier does not make it wait, else when the future is first polled, and from then on
    /// the timeout counts.
    ///
    /// Cancel-safe in the sense that matters: dropping the future tells the handler to stop.
    ///
    /// # Errors
    /// [`Error::NoHandler`] at once when nobody serves the target, [`Error::Remote`] when the
    /// handler answered with an error, [`Error::Timeout`] when it did not answer in time.
    pub fn send(self) -> Calling<'a> {
        Exchange::begin(self.draft, self.timeout, true)
    }
}

impl<'a> IntoFuture for Invoke<'a> {
    type Output = Result<Envelope, Error>;
    type IntoFuture = Calling<'a>;

    fn into_future(self) -> Calling<'a> {
        self.send()
    }
}

/// A request to whoever subscribes to a topic, about to be made.
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct TopicRequest<'a> {
    draft: Draft<'a>,
    timeout: Option<Duration>,
}

impl<'a> TopicRequest<'a> {
    pub(crate) fn new(bus: &'a Bus, topic: Text, payload: PreparedPayload) -> Self {
        Self {
            draft: Draft::new(bus, Purpose::Event(topic), payload),
            timeout: bus.inner().invoke_timeout,
        }
    }

    draft_setters!();

    /// Sets how long to wait.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Publishes the request, as [`Invoke::send`] does; what this returns waits for the first
    /// reply. Replies travel to a private inbox, so that no replier ever hears its own answer.
    ///
    /// # Errors
    /// As [`Invoke::send`]; without a subscriber it fails at once.
    pub fn send(self) -> Calling<'a> {
        Exchange::begin(self.draft, self.timeout, false)
    }
}

impl<'a> IntoFuture for TopicRequest<'a> {
    type Output = Result<Envelope, Error>;
    type IntoFuture = Calling<'a>;

    fn into_future(self) -> Calling<'a> {
        self.send()
    }
}

/// A call under way; ready with its reply. Dropping it before that tells the handler to stop.
#[must_use = "a call that nobody waits for is cancelled"]
pub struct Calling<'a>(Result<Exchange<'a>, Option<Error>>);

impl fmt::Debug for Calling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = self.0.as_ref().map(|exchange| &exchange.request.subject);
        f.debug_tuple("Calling").field(&request).finish()
    }
}

impl Future for Calling<'_> {
    type Output = Result<Envelope, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(exchange) => match ready!(exchange.poll_reply(cx)) {
                // Not `unwrap_or_clone`, which moves a whole message once more.
                Ok(reply) => Poll::Ready(Ok(match Arc::try_unwrap(reply) {
                    Ok(reply) => reply.envelope,
                    Err(shared) => shared.envelope.clone(),
                })),
                Err(error) => Poll::Ready(Err(error)),
            },
            Err(refused) => match refused.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        }
    }
}

/// A request that was sent, and the wait for its reply.
///
/// Written by hand because every call is one: the envelope is in the carrier's hands by now, and
/// an async function would keep the room for it.
struct Exchange<'a> {
    bus: &'a Bus,
    /// Set until the carrier has taken the request, if it makes it wait.
    sending: Option<BoxFuture<'static, Result<Receipt, TransportError>>>,
    replies: Subscription,
    request: Arc<Message>,
    /// Whether the handlers are to be told when nobody waits for the reply any more.
    cancels: bool,
    timeout: Option<Duration>,
    /// When that is over; not known yet where it counts from the first poll on.
    due: Option<Instant>,
    waits: bool,
    /// Only where the carrier does not keep the time.
    deadline: Option<Box<Deadline<'a>>>,
    span: OpenSpan,
}

impl<'a> Exchange<'a> {
    /// Sends the request.
    fn begin(draft: Draft<'a>, timeout: Option<Duration>, cancels: bool) -> Calling<'a> {
        let bus = draft.bus;
        let sent = bus.transport().open_inbox().map_err(Error::from);
        let sent = sent.and_then(|inbox| {
            let finished = draft.finish(Some(inbox.subject()))?;
            Ok((inbox, finished))
        });
        let (inbox, finished) = match sent {
            Ok(sent) => sent,
            Err(error) => return Calling(Err(Some(error))),
        };
        let request = finished.message;
        let sent = bus.transport().publish(Arc::clone(&request), REQUEST);
        let mut exchange = Self {
            bus,
            sending: None,
            replies: inbox.into_parts().1,
            request,
            cancels,
            timeout,
            due: ends(finished.made_at, timeout),
            waits: false,
            deadline: None,
            span: finished.span,
        };
        match sent {
            Completion::Ready(Some(Err(error))) => {
                return Calling(Err(exchange.conclude(Err(error.into())).err()));
            }
            Completion::Ready(_) => {}
            Completion::Waiting(sending) => {
                // From the first poll on, when it sets out.
                exchange.due = None;
                exchange.sending = Some(sending);
            }
        }
        Calling(Ok(exchange))
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Message>, Error>> {
        if self.due.is_none() && self.timeout.is_some() {
            self.due = ends(Some(Instant::now()), self.timeout);
        }
        Poll::Ready(match self.poll_answer(cx) {
            Poll::Ready(answer) => self.conclude(answer),
            Poll::Pending => {
                ready!(self.poll_overdue(cx));
                let error = Err(self.give_up());
                self.span.end(error.as_ref());
                error
            }
        })
    }

    /// Ends the call with its answer.
    fn conclude(&mut self, answer: Result<Arc<Message>, Error>) -> Result<Arc<Message>, Error> {
        self.cancels = false;
        let outcome = self.accept(answer);
        self.span.end(outcome.as_ref());
        outcome
    }

    /// Waits for the reply; frames that only lead up to one, from a target that streams, are
    /// skipped.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Message>, Error>> {
        if let Some(sending) = &mut self.sending {
            let sent = ready!(sending.as_mut().poll(cx));
            self.sending = None;
            sent?;
        }
        loop {
            match ready!(self.replies.poll_reply(cx, self.due)) {
                Some(Received::Live(delivery)) => {
                    let (message, _) = delivery.into_parts();
                    if !message.envelope.event_type.is_underway() {
                        return Poll::Ready(Ok(message));
                    }
                }
                Some(Received::Expired(_)) => {}
                Some(Received::Lost) => {
                    let target = self.asked();
                    return Poll::Ready(Err(Error::Abandoned { target }));
                }
                Some(Received::NoResponder) => {
                    let target = self.asked();
                    return Poll::Ready(Err(Error::NoHandler { target }));
                }
                None => return Poll::Ready(Err(TransportError::Closed.into())),
            }
        }
    }

    /// Ready once the time is over.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else {
            return Poll::Pending;
        };
        if self.deadline.is_none() && self.sending.is_none() && self.replies.keeps_time() {
            // Just begun, it cannot be over; the clock is asked only when something woke us.
            let woken = std::mem::replace(&mut self.waits, true);
            return match woken && Instant::now() >= due {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        }
        let deadlines = &self.bus.inner().deadlines;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::new(deadlines.at(due)));
        Pin::new(&mut **deadline).poll(cx)
    }

    /// Ends the call without an answer; the handlers are told at once.
    fn give_up(&mut self) -> Error {
        self.cancel();
        Error::Timeout {
            target: self.asked(),
            after: self.timeout.unwrap_or_default(),
        }
    }

    /// Turns an error reply and the notice that nobody listens into errors.
    fn accept(&self, reply: Result<Arc<Message>, Error>) -> Result<Arc<Message>, Error> {
        let reply = reply.map_err(|error| unserved(error, || self.asked()))?;
        match ErrorPayload::of(&reply.envelope) {
            Some(error) => Err(Error::Remote(error)),
            None => Ok(reply),
        }
    }

    /// Whom an error names: the target or the topic.
    fn asked(&self) -> String {
        let space = self.bus.subjects();
        let target = space.tenant_and_target_of(&self.request.subject);
        let asked = target.map(|(_, target)| target);
        asked
            .unwrap_or(self.request.envelope.event_type.as_str())
            .to_owned()
    }

    fn cancel(&mut self) {
        if std::mem::take(&mut self.cancels) {
            cancel::send(self.bus, &self.request);
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        // Before the inbox goes, which the cancellation names.
        self.cancel();
    }
}

/// When the time of a call is over that was made at that moment.
fn ends(made_at: Option<Instant>, timeout: Option<Duration>) -> Option<Instant> {
    Some(after(made_at?, timeout?))
}

/// Names the target in the carrier's notice that nobody listens.
pub(crate) fn unserved(error: Error, target: impl FnOnce() -> String) -> Error {
    match error {
        Error::Transport(TransportError::NoResponder { .. }) => {
            let target = target();
            Error::NoHandler { target }
        }
        other => other,
    }
}
