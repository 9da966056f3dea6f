//! JSON Schemas for payloads, checked where messages are published and where they are handled.
//!
//! A bus never looks into a payload by itself; this is for those who ask for it. Names are exact,
//! and what has no schema passes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use agentbus_protocol::{Envelope, FrameKind, Pattern, Payload, SubjectSpace};
use agentbus_transport::{
    BoxFuture, Capabilities, Completion, Drained, DurableInfo, Inbox, Message, PublishOptions,
    Receipt, Subscribe, Subscription, Transport, TransportError, TransportStats,
};
use futures_util::future::{Either, Ready, ready};
use jsonschema::Validator;
use serde_json::Value;
use tower::{Layer, Service};

use crate::handler::{Handler, Reply, Request};
use crate::{Error, limits};

/// A registry of schemas: one for an event type, one for the requests to a target.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    events: HashMap<String, Arc<Validator>>,
    targets: HashMap<String, Arc<Validator>>,
}

impl Schemas {
    /// Requires payloads of an event type to match.
    ///
    /// # Errors
    /// Fails when `schema` is no JSON Schema, or refers to a document that is not in it: nothing is
    /// fetched.
    pub fn event(mut self, event_type: &str, schema: &Value) -> Result<Self, Error> {
        let validator = compile(event_type, schema)?;
        self.events.insert(event_type.to_owned(), validator);
        Ok(self)
    }

    /// Requires requests to a target to match.
    ///
    /// # Errors
    /// As [`event`](Self::event).
    pub fn target(mut self, target: &str, schema: &Value) -> Result<Self, Error> {
        let validator = compile(target, schema)?;
        self.targets.insert(target.to_owned(), validator);
        Ok(self)
    }

    /// Whether there is no schema at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.targets.is_empty()
    }

    /// What is wrong with a payload, if anything.
    fn check(&self, envelope: &Envelope) -> Result<(), TransportError> {
        let requested = envelope.frame_type == FrameKind::Request.text();
        let (name, schemas) = match requested {
            true => (&*envelope.to, &self.targets),
            // Frames of a reply name their own types; only events are meant.
            false if envelope.frame_type.is_empty() => (envelope.event_type.as_str(), &self.events),
            false => return Ok(()),
        };
        let Some(validator) = schemas.get(name) else {
            return Ok(());
        };
        let problems = problems(validator, envelope.payload.as_ref());
        match problems.is_empty() {
            true => Ok(()),
            false => Err(TransportError::Invalid {
                name: name.to_owned(),
                problems,
            }),
        }
    }
}

fn compile(name: &str, schema: &Value) -> Result<Arc<Validator>, Error> {
    // The crate's own retriever is not compiled in, so a foreign reference is an error here.
    let validator = jsonschema::validator_for(schema);
    let validator = validator
        .map_err(|error| Error::Setup(format!("the schema of `{name}` cannot be used: {error}")))?;
    Ok(Arc::new(validator))
}

/// The first few problems as one text; empty when there is none.
fn problems(validator: &Validator, payload: Option<&Payload>) -> String {
    let value: Result<Value, _> = match payload {
        Some(payload) => payload.decode(),
        None => Ok(Value::Null),
    };
    let value = match value {
        Ok(value) => value,
        Err(error) => return error.to_string(),
    };
    let mut text = String::new();
    for (n, error) in validator.iter_errors(&value).enumerate() {
        if n == limits::SCHEMA_PROBLEMS_MAX {
            text.push_str("; and more");
            break;
        }
        if n > 0 {
            text.push_str("; ");
        }
        let place = error.instance_path().to_string();
        if !place.is_empty() {
            text.push_str(&format!("at {place}: "));
        }
        // Without the value itself: it may be long, or secret.
        text.push_str(&error.masked().to_string());
    }
    text
}

/// Puts the registry in front of a transport: what does not match is refused to its publisher.
#[derive(Debug)]
pub(crate) struct Checked {
    inner: Arc<dyn Transport>,
    schemas: Schemas,
}

impl Checked {
    pub(crate) fn new(inner: Arc<dyn Transport>, schemas: Schemas) -> Self {
        Self { inner, schemas }
    }
}

impl Transport for Checked {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn shared_topics(&self) -> &[Pattern] {
        self.inner.shared_topics()
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        match self.schemas.check(&message.envelope) {
            Ok(()) => self.inner.publish(message, options),
            Err(error) => Completion::ready(Err(error)),
        }
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>> {
        self.inner.subscribe(request)
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        self.inner.open_inbox()
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        self.inner.close(drain)
    }

    fn stats(&self) -> TransportStats {
        self.inner.stats()
    }

    fn subjects(&self) -> Option<SubjectSpace> {
        self.inner.subjects()
    }

    fn remove_durable<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), TransportError>> {
        self.inner.remove_durable(name)
    }

    fn durables(&self) -> BoxFuture<'_, Result<Vec<DurableInfo>, TransportError>> {
        self.inner.durables()
    }
}

/// A registry is a layer too: it refuses what a handler would get from publishers that do not
/// check.
impl<S: Clone> Layer<S> for Schemas {
    type Service = SchemasService<S>;

    fn layer(&self, inner: S) -> SchemasService<S> {
        SchemasService {
            inner,
            schemas: Arc::new(self.clone()),
        }
    }
}

/// The service of [`Schemas`].
#[derive(Clone)]
pub struct SchemasService<S> {
    inner: S,
    schemas: Arc<Schemas>,
}

impl<S: Handler> Service<Request> for SchemasService<S> {
    type Response = Reply;
    type Error = Error;
    type Future = Either<Ready<Result<Reply, Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.schemas.check(request.envelope()) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(error) => Either::Left(ready(Err(error.into()))),
        }
    }
}

impl<S> fmt::Debug for SchemasService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemasService").finish_non_exhaustive()
    }
}
