//! An outgoing envelope while it is being refined.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_protocol::{Envelope, FrameKind, Subject, SubjectError, SubjectSpace};
use agentbus_transport::{Message, Priority};

use crate::bus::PreparedPayload;
use crate::telemetry::OpenSpan;
use crate::{Bus, Error};

/// What all calls and publishes share; the builders only add what is theirs.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) bus: &'a Bus,
    pub(crate) envelope: Envelope,
    pub(crate) payload: PreparedPayload,
    pub(crate) priority: Priority,
    pub(crate) ttl: Option<Duration>,
}

impl<'a> Draft<'a> {
    pub(crate) const fn new(bus: &'a Bus, envelope: Envelope, payload: PreparedPayload) -> Self {
        Self {
            bus,
            envelope,
            payload,
            priority: Priority::Normal,
            ttl: None,
        }
    }

    /// Takes over a request that came from elsewhere; its payload counts unless it has none, and
    /// only what it leaves empty is filled in.
    pub(crate) fn forward(&mut self, envelope: Envelope) {
        if envelope.payload.is_some() {
            self.payload = Ok(envelope.payload.clone());
        }
        let target = std::mem::replace(&mut self.envelope, envelope).to;
        if self.envelope.to.is_empty() {
            self.envelope.to = target;
        }
        if self.envelope.frame_type.is_empty() {
            self.envelope.frame_type = FrameKind::Request.text();
        }
    }

    /// Completes the envelope, addresses it and begins its span.
    pub(crate) fn into_message(
        mut self,
        reply_to: Option<&Subject>,
        resolve: impl FnOnce(&SubjectSpace, &Envelope) -> Result<Subject, SubjectError>,
    ) -> Result<(Arc<Message>, OpenSpan), Error> {
        self.bus.check_open()?;
        self.envelope.payload = self.payload?;
        if let Some(inbox) = reply_to {
            self.envelope.reply_to = inbox.text().clone();
        }
        self.bus.prepare(&mut self.envelope);
        let sink = self.bus.inner().spans.as_ref();
        let span = match self.envelope.frame_type.is_empty() {
            true => OpenSpan::publish(sink, &mut self.envelope),
            false => OpenSpan::call(sink, &mut self.envelope),
        };
        let subject = self.bus.subject(&self.envelope, resolve)?;
        let mut message = Message::new(subject, self.envelope);
        message.priority = self.priority;
        message.expires_at = self.ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        let span = span.addressed(message.subject.as_str());
        Ok((Arc::new(message), span))
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
            self.draft.envelope.context = context;
            self
        }

        /// Sets the session: with pools, all messages of one session reach one worker.
        pub fn session(mut self, session_id: impl Into<agentbus_protocol::Text>) -> Self {
            self.draft.envelope.context.edit().session_id = session_id.into();
            self
        }

        /// Sets the W3C trace context.
        pub fn traceparent(mut self, traceparent: impl Into<agentbus_protocol::Text>) -> Self {
            self.draft.envelope.context.edit().traceparent = traceparent.into();
            self
        }

        /// Sets metadata.
        pub fn metadata(mut self, metadata: agentbus_protocol::Metadata) -> Self {
            self.draft.envelope.metadata = metadata;
            self
        }

        /// Says which request or task this belongs to.
        pub fn correlation_id(mut self, id: agentbus_protocol::EventId) -> Self {
            self.draft.envelope.correlation_id = id;
            self
        }

        /// Names another sender than this bus's agent; for gateways that speak for others.
        pub fn sender(mut self, agent_id: impl Into<agentbus_protocol::Text>) -> Self {
            self.draft.envelope.from = agent_id.into();
            self
        }
    };
}

pub(crate) use draft_setters;
