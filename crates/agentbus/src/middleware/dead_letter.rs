//! Keeping what could not be handled.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use agentbus_protocol::{Envelope, ErrorCode, Subject};
use agentbus_transport::dead_letter::{self, Death, KEYS};
use agentbus_transport::{BoxFuture, Message, PublishOptions};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::handler::{Handler, Reply, Request};
use crate::{Bus, Error};

pub use agentbus_transport::dead_letter::{
    ATTEMPTS, FIRST_ERROR, LAST_ERROR, ORIGINAL_EVENT_TYPE, ORIGINAL_SUBJECT, REASON,
};

/// Publishes what a handler failed on to `{prefix}.dlq.{event_type}`, then lets the error go on.
///
/// An event that expired before its handler took it is such a failure too, with the reason
/// `expired`; a durable subscription buries it without this layer.
///
/// Put it outside of [`Retry`](super::Retry) to see only what no attempt could handle.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadLetter;

impl<S> Layer<S> for DeadLetter {
    type Service = DeadLetterService<S>;

    fn layer(&self, inner: S) -> DeadLetterService<S> {
        DeadLetterService(inner)
    }
}

/// The service of [`DeadLetter`].
#[derive(Debug, Clone)]
pub struct DeadLetterService<S>(S);

impl<S: Handler> Service<Request> for DeadLetterService<S> {
    type Response = Reply;
    type Error = Error;
    type Future = Buried<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Buried {
            handled: self.0.call(request.clone()),
            request,
            burying: None,
        }
    }
}

pin_project! {
    /// The future of [`DeadLetterService`].
    pub struct Buried<F> {
        #[pin]
        handled: F,
        request: Request,
        // The failure on its way into the dead letters.
        burying: Option<BoxFuture<'static, Error>>,
    }
}

impl<F: Future<Output = Result<Reply, Error>>> Future for Buried<F> {
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.burying.is_none() {
            match ready!(this.handled.poll(cx)) {
                Ok(reply) => return Poll::Ready(Ok(reply)),
                Err(error) => *this.burying = Some(Box::pin(bury(this.request.clone(), error))),
            }
        }
        match this.burying {
            Some(burying) => burying.as_mut().poll(cx).map(Err),
            None => Poll::Pending,
        }
    }
}

impl<F> fmt::Debug for Buried<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buried")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// Publishes the dead letter of a failed request and hands the failure back.
async fn bury(request: Request, error: Error) -> Error {
    bury_message(request.bus(), request.message(), request.attempt(), &error).await;
    error
}

/// Publishes the dead letter of a message that ended like this at this attempt.
pub(crate) async fn bury_message(bus: &Bus, message: &Message, attempt: u32, error: &Error) {
    if let Err(lost) = publish(bus, message, attempt, error).await {
        let event_id = &message.envelope.event_id;
        tracing::error!(%event_id, %error, %lost, "a dead letter could not be published");
    }
}

async fn publish(bus: &Bus, message: &Message, attempt: u32, error: &Error) -> Result<(), Error> {
    let letter = letter(message, attempt, error);
    let subject = bus.subjects().dlq(letter.event_type.as_str())?;
    let letter = Arc::new(Message::new(subject, letter));
    bus.transport()
        .publish(letter, PublishOptions::default())
        .await?;
    Ok(())
}

/// The envelope as it was, with what happened to it in its metadata.
fn letter(message: &Message, attempt: u32, error: &Error) -> Envelope {
    let (attempts, first, last) = match error {
        Error::Exhausted {
            attempts,
            first,
            last,
        } => (*attempts, &**first, &**last),
        // The handler was not asked any more.
        Error::Expired => (attempt.saturating_sub(1), error, error),
        other => (1, other, other),
    };
    let death = Death {
        reason: reason(error),
        attempts,
        first_error: &first.to_string(),
        last_error: &last.to_string(),
    };
    dead_letter::letter(message, death)
}

fn reason(error: &Error) -> &'static str {
    match (error, error.code()) {
        (Error::Exhausted { .. }, _) => "max_retries",
        (Error::Expired, _) => "expired",
        (_, ErrorCode::InvalidRequest) => "validation_error",
        _ => "handler_error",
    }
}

/// Sends a dead letter to where it was going, without the marks of its death.
///
/// # Errors
/// Fails when the envelope is no dead letter, when its subject is no event or target under the prefix of this bus (the
/// metadata came from a stranger), or when nobody listens there.
pub async fn redrive(bus: &Bus, letter: &Envelope) -> Result<(), Error> {
    resend(bus, letter, destination(bus, letter)?, false).await
}

/// [`redrive`], and waits until it was handled where the transport can say so.
pub(crate) async fn redrive_confirmed(
    bus: &Bus,
    letter: &Envelope,
    subject: Subject,
) -> Result<(), Error> {
    resend(bus, letter, subject, true).await
}

/// Where a dead letter was going: an event or a target under the prefix of the bus, in whatever
/// tenant, since dead letters have none.
pub(crate) fn destination(bus: &Bus, letter: &Envelope) -> Result<Subject, Error> {
    let missing = || Error::invalid_request("the envelope is no dead letter: it names no subject");
    let subject: String = letter.metadata.get(ORIGINAL_SUBJECT).ok_or_else(missing)?;
    let (space, subject) = (bus.subjects(), Subject::parse(&subject)?);
    let is_event = space.takes_replies(&subject) && !subject.is_inbox();
    if !is_event && space.tenant_and_target_of(&subject).is_none() {
        let message =
            format!("the dead letter's subject `{subject}` is no event or target of this bus");
        return Err(Error::invalid_request(message));
    }
    Ok(subject)
}

async fn resend(
    bus: &Bus,
    letter: &Envelope,
    subject: Subject,
    confirm: bool,
) -> Result<(), Error> {
    let mut envelope = letter.clone();
    KEYS.iter().for_each(|key| envelope.metadata.remove(key));
    let message = Arc::new(Message::new(subject, envelope));
    let options = PublishOptions {
        confirm,
        require_responder: true,
        idempotency_key: None,
    };
    bus.transport().publish(message, options).await?;
    Ok(())
}
