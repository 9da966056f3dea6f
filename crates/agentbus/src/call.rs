//! Calls that wait for one reply.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use agentbus_protocol::{Envelope, ErrorPayload, EventType, FrameKind, Text};
use agentbus_transport::{BoxFuture, Inbox, Message, PublishOptions, Received, TransportError};

use crate::bus::PreparedPayload;
use crate::cancel::CancelOnDrop;
use crate::draft::{Draft, draft_setters};
use crate::{Bus, Error, mint};

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
        let from = bus.agent_id_text().clone();
        let request = Envelope::request(mint::stamp(), from, target.clone(), None);
        Self {
            draft: Draft::new(bus, request, payload),
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

    /// Makes the call.
    ///
    /// Cancel-safe in the sense that matters: dropping the future tells the handler to stop.
    ///
    /// # Errors
    /// [`Error::NoHandler`] at once when nobody serves the target, [`Error::Remote`] when the
    /// handler answered with an error, [`Error::Timeout`] when it did not answer in time.
    pub async fn send(self) -> Result<Envelope, Error> {
        let bus = self.draft.bus;
        let target = self.target;
        let mut inbox = bus.transport().open_inbox()?;
        let (message, mut span) = self
            .draft
            .into_message(Some(inbox.subject()), |space, _| space.invoke(&target))?;
        let mut cancel = CancelOnDrop::new(bus, &message);
        let exchange = async {
            bus.transport().publish(message, REQUEST).await?;
            first_answer(&mut inbox, &target).await
        };
        let reply = within(bus, self.timeout, &target, exchange).await;
        if !matches!(reply, Err(Error::Timeout { .. })) {
            cancel.disarm();
        }
        let reply = accept(reply, &target);
        span.end(reply.as_ref());
        reply
    }
}

impl<'a> IntoFuture for Invoke<'a> {
    type Output = Result<Envelope, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
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
        let request = Envelope::new(mint::stamp(), EventType::new(topic));
        Self {
            draft: Draft::new(bus, request, payload),
            timeout: bus.inner().invoke_timeout,
        }
    }

    draft_setters!();

    /// Sets how long to wait.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Publishes the request and waits for the first reply. Replies travel to a private inbox,
    /// so that no replier ever hears its own answer.
    ///
    /// # Errors
    /// As [`Invoke::send`]; without a subscriber it fails at once.
    pub async fn send(self) -> Result<Envelope, Error> {
        let bus = self.draft.bus;
        let topic = self.draft.envelope.event_type.clone();
        let mut inbox = bus.transport().open_inbox()?;
        let (message, mut span) = self.draft.into_message(Some(inbox.subject()), |space, _| {
            space.events(topic.as_str())
        })?;
        let exchange = async {
            bus.transport().publish(message, REQUEST).await?;
            first_answer(&mut inbox, topic.as_str()).await
        };
        let reply = within(bus, self.timeout, topic.as_str(), exchange).await;
        let reply = accept(reply, topic.as_str());
        span.end(reply.as_ref());
        reply
    }
}

impl<'a> IntoFuture for TopicRequest<'a> {
    type Output = Result<Envelope, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Bounds an exchange by the bus's own deadlines; see [`crate::deadline`].
async fn within<T>(
    bus: &Bus,
    timeout: Option<Duration>,
    target: &str,
    exchange: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(after) = timeout else {
        return exchange.await;
    };
    let deadlines = &bus.inner().deadlines;
    deadlines.watch();
    let mut deadline = deadlines.after(after);
    let mut exchange = pin!(exchange);
    poll_fn(|cx| match exchange.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => Pin::new(&mut deadline).poll(cx).map(|()| {
            Err(Error::Timeout {
                target: target.to_owned(),
                after,
            })
        }),
    })
    .await
}

/// Waits for the reply; frames that only lead up to one, from a target that streams, are skipped.
async fn first_answer(inbox: &mut Inbox, target: &str) -> Result<Arc<Message>, Error> {
    loop {
        match inbox.receive().await {
            Some(Received::Live(delivery)) => {
                let (message, _) = delivery.into_parts();
                let kind = message.envelope.event_type.frame_kind();
                if !matches!(kind, Some(FrameKind::Started | FrameKind::Delta)) {
                    return Ok(message);
                }
            }
            Some(Received::Expired(_)) => {}
            Some(Received::Lost) => {
                return Err(Error::Abandoned {
                    target: target.to_owned(),
                });
            }
            Some(Received::NoResponder) => {
                return Err(Error::NoHandler {
                    target: target.to_owned(),
                });
            }
            None => return Err(TransportError::Closed.into()),
        }
    }
}

/// Turns an error reply and the notice that nobody listens into errors.
fn accept(reply: Result<Arc<Message>, Error>, target: &str) -> Result<Envelope, Error> {
    let reply = reply.map_err(|error| unserved(error, target))?;
    match ErrorPayload::of(&reply.envelope) {
        Some(error) => Err(Error::Remote(error)),
        None => Ok(Arc::unwrap_or_clone(reply).envelope),
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
