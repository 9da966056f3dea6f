//! An outgoing envelope while it is being refined.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_protocol::{
    Envelope, FrameKind, PayloadError, Subject, SubjectError, SubjectSpace, copied,
};
use agentbus_transport::{Message, Priority};

use crate::bus::PreparedPayload;
use crate::telemetry::OpenSpan;
use crate::{Bus, Error};

/// What all calls and publishes share; the builders only add what is theirs.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) bus: &'a Bus,
    /// In the place where it will travel, because an envelope is large and every move of the
    /// builder would copy it. Nobody shares it yet.
    message: Arc<Message>,
    /// Why there is no payload, though there should be one.
    unpayable: Option<Box<PayloadError>>,
    pub(crate) priority: Priority,
    pub(crate) ttl: Option<Duration>,
}

impl<'a> Draft<'a> {
    /// Begins with what `write` makes of a blank envelope.
    pub(crate) fn new(
        bus: &'a Bus,
        payload: PreparedPayload,
        write: impl FnOnce(&mut Envelope),
    ) -> Self {
        let mut message = Arc::new(Message::BLANK);
        let envelope = &mut Arc::make_mut(&mut message).envelope;
        write(envelope);
        let unpayable = match payload {
            Ok(payload) => {
                envelope.payload = payload;
                None
            }
            Err(error) => Some(Box::new(error)),
        };
        Self {
            bus,
            message,
            unpayable,
            priority: Priority::Normal,
            ttl: None,
        }
    }

    pub(crate) fn envelope(&self) -> &Envelope {
        &self.message.envelope
    }

    pub(crate) fn envelope_mut(&mut self) -> &mut Envelope {
        &mut Arc::make_mut(&mut self.message).envelope
    }

    /// Takes over a request that came from elsewhere; its payload counts unless it has none, and
    /// only what it leaves empty is filled in.
    pub(crate) fn forward(&mut self, envelope: Envelope) {
        if envelope.payload.is_some() {
            self.unpayable = None;
        }
        let draft = self.envelope_mut();
        let mut before = std::mem::replace(draft, envelope);
        if draft.payload.is_none() {
            draft.payload = before.payload.take();
        }
        if draft.to.is_empty() {
            draft.to = before.to;
        }
        if draft.frame_type.is_empty() {
            draft.frame_type = FrameKind::Request.text();
        }
    }

    /// Completes the envelope, addresses it and begins its span.
    pub(crate) fn into_message(
        mut self,
        reply_to: Option<&Subject>,
        resolve: impl FnOnce(&SubjectSpace, &Envelope) -> Result<Subject, SubjectError>,
    ) -> Result<(Arc<Message>, OpenSpan), Error> {
        self.bus.check_open()?;
        if let Some(error) = self.unpayable {
            return Err((*error).into());
        }
        let message = Arc::make_mut(&mut self.message);
        let envelope = &mut message.envelope;
        if let Some(inbox) = reply_to {
            envelope.reply_to = copied(inbox.text());
        }
        self.bus.prepare(envelope);
        let sink = self.bus.inner().spans.as_ref();
        let span = match envelope.frame_type.is_empty() {
            true => OpenSpan::publish(sink, envelope),
            false => OpenSpan::call(sink, envelope),
        };
        message.subject = self.bus.subject(envelope, resolve)?;
        message.priority = self.priority;
        message.expires_at = self.ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        let span = span.addressed(message.subject.as_str());
        Ok((self.message, span))
    }
}

/// The refinements that every builder around a [`Draft`] offers.
macro_rules! draft_setters {
    () => {
        /// Takes a lane.
        pub const fn priority(mut self, priority: agentbus_transport::Priority) -> Self {
            self.draft.priority = priority;
            self
        }

        /// Withholds the message from whoever has not taken it after this time.
        pub const fn ttl(mut self, ttl: std::time::Duration) -> Self {
            self.draft.ttl = Some(ttl);
            self
        }

        /// Sets session, tenant, user and trace.
        pub fn context(mut self, context: agentbus_protocol::Context) -> Self {
            self.draft.envelope_mut().context = context;
            self
        }

        /// Sets the session: with pools, all messages of one session reach one worker.
        pub fn session(mut self, session_id: impl Into<agentbus_protocol::Text>) -> Self {
            self.draft.envelope_mut().context.edit().session_id = session_id.into();
            self
        }

        /// Sets the W3C trace context.
        pub fn traceparent(mut self, traceparent: impl Into<agentbus_protocol::Text>) -> Self {
            self.draft.envelope_mut().context.edit().traceparent = traceparent.into();
            self
        }

        /// Sets metadata.
        pub fn metadata(mut self, metadata: agentbus_protocol::Metadata) -> Self {
            self.draft.envelope_mut().metadata = metadata;
            self
        }

        /// Says which request or task this belongs to.
        pub fn correlation_id(mut self, id: agentbus_protocol::EventId) -> Self {
            self.draft.envelope_mut().correlation_id = id;
            self
        }

        /// Names another sender than this bus's agent; for gateways that speak for others.
        pub fn sender(mut self, agent_id: impl Into<agentbus_protocol::Text>) -> Self {
            self.draft.envelope_mut().from = agent_id.into();
            self
        }
    };
}

pub(crate) use draft_setters;
