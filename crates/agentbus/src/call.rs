//! Calls that wait for one reply.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agentbus_protocol::{
    Envelope, ErrorPayload, EventType, FrameKind, Subject, SubjectError, SubjectSpace, Text, copied,
};
use agentbus_transport::{
    Completion, Inbox, Message, PublishOptions, Receipt, Received, TransportError,
};

use crate::bus::PreparedPayload;
use crate::deadline::Deadline;
use crate::draft::{Draft, draft_setters};
use crate::telemetry::OpenSpan;
use crate::{Bus, Error, cancel, mint};

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
    target: Text,
    timeout: Option<Duration>,
}

impl<'a> Invoke<'a> {
    pub(crate) fn new(bus: &'a Bus, target: Text, payload: PreparedPayload) -> Self {
        let draft = Draft::new(bus, payload, |request| {
            let from = copied(bus.agent_id_text());
            request.become_request(mint::stamp(), from, copied(&target));
        });
        Self {
            draft,
            target,
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
        Exchange::begin(
            self.draft,
            self.timeout,
            self.target,
            true,
            SubjectSpace::invoke,
        )
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
        let draft = Draft::new(bus, payload, |request| {
            request.become_event(mint::stamp(), EventType::new(topic));
        });
        Self {
            draft,
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
        let topic = self.draft.envelope().event_type.as_str().into();
        Exchange::begin(self.draft, self.timeout, topic, false, |space, topic| {
            space.events(topic)
        })
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
#[derive(Debug)]
#[must_use = "a call that nobody waits for is cancelled"]
pub struct Calling<'a>(Result<Exchange<'a>, Option<Error>>);

impl Future for Calling<'_> {
    type Output = Result<Envelope, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(exchange) => match ready!(exchange.poll_reply(cx)) {
                Ok(reply) => Poll::Ready(Ok(own(reply))),
                Err(error) => Poll::Ready(Err(error)),
            },
            Err(refused) => match refused.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        }
    }
}

/// Takes the envelope out of a reply, straight to where it is wanted if nobody else has the reply.
fn own(mut reply: Arc<Message>) -> Envelope {
    match Arc::get_mut(&mut reply) {
        Some(message) => std::mem::replace(&mut message.envelope, Envelope::BLANK),
        None => reply.envelope.clone(),
    }
}

/// A request that was sent, and the wait for its reply.
///
/// Written by hand because every call is one: the envelope is in the carrier's hands by now, and
/// an async function would keep the room for it.
#[derive(Debug)]
struct Exchange<'a> {
    bus: &'a Bus,
    /// Whom an error names: the target or the topic.
    target: Text,
    /// Set until the carrier has taken the request.
    sending: Option<Completion<Result<Receipt, TransportError>>>,
    inbox: Inbox,
    request: Arc<Message>,
    /// Whether the handlers are to be told when nobody waits for the reply any more.
    cancels: bool,
    timeout: Option<Duration>,
    /// Set up only when there is something to wait for.
    deadline: Option<Deadline<'a>>,
    span: OpenSpan,
}

impl<'a> Exchange<'a> {
    /// Sends the request.
    fn begin(
        draft: Draft<'a>,
        timeout: Option<Duration>,
        target: Text,
        cancels: bool,
        resolve: fn(&SubjectSpace, &str) -> Result<Subject, SubjectError>,
    ) -> Calling<'a> {
        let bus = draft.bus;
        let sent = bus.transport().open_inbox().map_err(Error::from);
        let sent = sent.and_then(|inbox| {
            let resolve = |space: &SubjectSpace, _: &Envelope| resolve(space, &target);
            let (request, span) = draft.into_message(Some(inbox.subject()), resolve)?;
            Ok((inbox, request, span))
        });
        let (inbox, request, span) = match sent {
            Ok(sent) => sent,
            Err(error) => return Calling(Err(Some(error))),
        };
        let sending = bus.transport().publish(Arc::clone(&request), REQUEST);
        Calling(Ok(Self {
            bus,
            target,
            sending: Some(sending),
            inbox,
            request,
            cancels,
            timeout,
            deadline: None,
            span,
        }))
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Message>, Error>> {
        let outcome = match self.poll_answer(cx) {
            Poll::Ready(answer) => {
                self.cancels = false;
                accept(answer, &self.target)
            }
            Poll::Pending => Err(ready!(self.poll_deadline(cx))),
        };
        self.span.end(outcome.as_ref());
        Poll::Ready(outcome)
    }

    /// Waits for the reply; frames that only lead up to one, from a target that streams, are
    /// skipped.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Message>, Error>> {
        if let Some(sending) = &mut self.sending {
            let sent = ready!(Pin::new(sending).poll(cx));
            self.sending = None;
            sent?;
        }
        loop {
            match ready!(self.inbox.poll_next(cx)) {
                Some(Received::Live(delivery)) => {
                    let (message, _) = delivery.into_parts();
                    let kind = message.envelope.event_type.frame_kind();
                    if !matches!(kind, Some(FrameKind::Started | FrameKind::Delta)) {
                        return Poll::Ready(Ok(message));
                    }
                }
                Some(Received::Expired(_)) => {}
                Some(Received::Lost) => {
                    let target = self.target.to_string();
                    return Poll::Ready(Err(Error::Abandoned { target }));
                }
                Some(Received::NoResponder) => {
                    let target = self.target.to_string();
                    return Poll::Ready(Err(Error::NoHandler { target }));
                }
                None => return Poll::Ready(Err(TransportError::Closed.into())),
            }
        }
    }

    /// Ready with the error once the time is over; the handlers are told at once.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(after) = self.timeout else {
            return Poll::Pending;
        };
        let deadlines = &self.bus.inner().deadlines;
        let deadline = self.deadline.get_or_insert_with(|| deadlines.after(after));
        ready!(Pin::new(deadline).poll(cx));
        self.cancel();
        let target = self.target.to_string();
        Poll::Ready(Error::Timeout { target, after })
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

/// Turns an error reply and the notice that nobody listens into errors.
fn accept(reply: Result<Arc<Message>, Error>, target: &str) -> Result<Arc<Message>, Error> {
    let reply = reply.map_err(|error| unserved(error, target))?;
    match ErrorPayload::of(&reply.envelope) {
        Some(error) => Err(Error::Remote(error)),
        None => Ok(reply),
    }
}

/// Names the target in the carrier's notice that nobody listens.
pub(crate) fn unserved(error: Error, target: &str) -> Error {
    match error {
        Error::Transport(TransportError::NoResponder { .. }) => Error::NoHandler {
            target: target.to_owned(),
        },
        other => other,
    }
}
