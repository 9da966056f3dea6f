//! What a handler is given and what it gives back.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use agentbus_protocol::{Envelope, Payload, PayloadError, Subject};
use agentbus_transport::Message;
use pin_project_lite::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::targets::Target;
use crate::{Bus, Error, StreamWriter};

/// A handler whose type is hidden: a tower service from [`Request`] to [`Reply`].
pub type HandlerService = BoxCloneSyncService<Request, Reply, Error>;

/// What a layer of middleware wraps: any tower service from [`Request`] to [`Reply`].
pub trait Handler: Service<Request, Response = Reply, Error = Error> {}

impl<S: Service<Request, Response = Reply, Error = Error>> Handler for S {}

/// One message on its way through the middleware to a handler. Cloning is cheap.
#[derive(Clone)]
// Counted without weak references, because every request is one of these.
pub struct Request(triomphe::Arc<Inner>);

#[derive(Clone)]
struct Inner {
    message: Arc<Message>,
    served: Arc<Served>,
    attempt: u32,
    /// Whether it expired before its handler took it.
    late: bool,
    stream: Option<StreamWriter>,
}

/// What all requests to one handler share. It is apart from the bus itself so that handlers on
/// several threads do not all count references to one and the same bus.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) bus: Bus,
    pub(crate) target: Arc<Target>,
}

impl Request {
    pub(crate) fn new(
        message: Arc<Message>,
        served: Arc<Served>,
        attempt: u32,
        stream: Option<StreamWriter>,
    ) -> Self {
        Self(triomphe::Arc::new(Inner {
            message,
            served,
            attempt,
            late: false,
            stream,
        }))
    }

    /// An event that expired before its handler took it: no work, so no limit counts it.
    pub(crate) fn late(message: Arc<Message>, served: Arc<Served>, attempt: u32) -> Self {
        Self(triomphe::Arc::new(Inner {
            message,
            served,
            attempt,
            late: true,
            stream: None,
        }))
    }

    pub(crate) fn is_late(&self) -> bool {
        self.0.late
    }

    pub(crate) fn served(&self) -> &Served {
        &self.0.served
    }

    /// The envelope.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.0.message.envelope
    }

    /// The message, as the transport delivered it.
    #[must_use]
    pub fn message(&self) -> &Arc<Message> {
        &self.0.message
    }

    /// The subject it arrived on.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.0.message.subject
    }

    /// The payload, if there is one.
    #[must_use]
    pub fn payload(&self) -> Option<&Payload> {
        self.0.message.envelope.payload.as_ref()
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// Fails when there is none or when it has another shape; as an error of the handler this
    /// becomes `INVALID_REQUEST`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(self.payload().ok_or(PayloadError::Absent)?.decode()?)
    }

    /// The bus that serves this handler, for calls to others.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.0.served.bus
    }

    /// Which attempt this is, from 1; redeliveries and retries count.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The writer of the reply's frames, for stream handlers.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamWriter> {
        self.0.stream.as_ref()
    }

    /// Whether frames have gone out, so that trying again would send them twice.
    #[must_use]
    pub fn has_sent_frames(&self) -> bool {
        self.stream().is_some_and(StreamWriter::has_sent)
    }

    /// The same request as another attempt, marked so in its metadata.
    #[must_use]
    pub fn for_attempt(&self, attempt: u32) -> Self {
        let mut changed = (*self.0).clone();
        let message = Arc::make_mut(&mut changed.message);
        // A number always has a JSON form.
        let key = agentbus_protocol::Metadata::RETRY_ATTEMPT;
        let _ = message.envelope.metadata.insert(key, &attempt);
        changed.attempt = attempt;
        Self(triomphe::Arc::new(changed))
    }

    /// The same request with its envelope changed.
    #[must_use]
    pub fn map_envelope(&self, change: impl FnOnce(&mut Envelope)) -> Self {
        let mut changed = (*self.0).clone();
        change(&mut Arc::make_mut(&mut changed.message).envelope);
        Self(triomphe::Arc::new(changed))
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("subject", self.subject())
            .field("event_id", &self.envelope().event_id)
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

/// What a handler answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Reply {
    /// Done, nothing to say: a reply without payload.
    #[default]
    Empty,
    /// A reply with this payload.
    Payload(Payload),
    /// An envelope of the handler's own making; empty fields are filled in.
    Envelope(Box<Envelope>),
}

impl From<Option<Payload>> for Reply {
    fn from(payload: Option<Payload>) -> Self {
        payload.map_or(Self::Empty, Self::Payload)
    }
}

/// What can be returned from a handler.
pub trait IntoReply {
    /// Makes the reply.
    ///
    /// # Errors
    /// Fails when the value has no JSON form.
    fn into_reply(self) -> Result<Reply, Error>;
}

impl IntoReply for Reply {
    fn into_reply(self) -> Result<Reply, Error> {
        Ok(self)
    }
}

impl IntoReply for () {
    fn into_reply(self) -> Result<Reply, Error> {
        Ok(Reply::Empty)
    }
}

impl IntoReply for Payload {
    fn into_reply(self) -> Result<Reply, Error> {
        Ok(Reply::Payload(self))
    }
}

impl IntoReply for Option<Payload> {
    fn into_reply(self) -> Result<Reply, Error> {
        Ok(self.into())
    }
}

impl IntoReply for Envelope {
    fn into_reply(self) -> Result<Reply, Error> {
        Ok(Reply::Envelope(Box::new(self)))
    }
}

impl IntoReply for serde_json::Value {
    fn into_reply(self) -> Result<Reply, Error> {
        Json(self).into_reply()
    }
}

/// A value that is written as JSON.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(
    /// The value.
    pub T,
);

impl<T: Serialize> IntoReply for Json<T> {
    fn into_reply(self) -> Result<Reply, Error> {
        Payload::from_value(&self.0)?.into_reply()
    }
}

/// Turns an async function into the innermost service.
pub(crate) struct FunctionService<F>(pub(crate) Arc<F>);

// Not derived: a clone shares the function, so the function need not be cloneable itself.
impl<F> Clone for FunctionService<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F, Fut, R> Service<Request> for FunctionService<F>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Error>> + Send + 'static,
    R: IntoReply,
{
    type Response = Reply;
    type Error = Error;
    type Future = Calling<Fut>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let running = (self.0)(request);
        Calling { running }
    }
}

pin_project! {
    /// A running handler function.
    pub(crate) struct Calling<Fut> {
        #[pin]
        running: Fut,
    }
}

impl<Fut, R> Future for Calling<Fut>
where
    Fut: Future<Output = Result<R, Error>>,
    R: IntoReply,
{
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = self.project().running.poll(cx);
        outcome.map(|value| value?.into_reply())
    }
}
