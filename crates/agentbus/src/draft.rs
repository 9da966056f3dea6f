//! An outgoing envelope while it is being refined.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{
    Envelope, EventType, FrameKind, Subject, SubjectError, SubjectSpace, Text, copied,
};
use agentbus_transport::{Message, Priority};
use tokio::time::Instant;

use crate::bus::PreparedPayload;
use crate::telemetry::OpenSpan;
use crate::{Bus, Error, address, mint};

/// What all calls and publishes share; the builders only add what is theirs.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) bus: &'a Bus,
    purpose: Purpose,
    payload: PreparedPayload,
    /// What was said beyond the usual, in the place where it will travel: an envelope is large, and
    /// every move of the builder would copy it. Most messages say nothing of the kind, and theirs is
    /// made when they are sent. Nobody shares it yet.
    message: Option<Arc<Message>>,
    /// Whether the envelope came from elsewhere and stays what it is.
    forwarded: bool,
    pub(crate) priority: Priority,
    pub(crate) ttl: Option<Duration>,
}

/// What a message is sent for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// A request to a target.
    Call(Text),
    /// Something for all who listen to this type of event.
    Event(Text),
}

impl Purpose {
    /// The subject that it is sent to.
    fn subject(&self, space: &SubjectSpace, envelope: &Envelope) -> Result<Subject, SubjectError> {
        match self {
            Self::Call(target) => address::of_target(space, target),
            Self::Event(_) => space.events(envelope.event_type.as_str()),
        }
    }
}

impl<'a> Draft<'a> {
    pub(crate) const fn new(bus: &'a Bus, purpose: Purpose, payload: PreparedPayload) -> Self {
        Self {
            bus,
            purpose,
            payload,
            message: None,
            forwarded: false,
            priority: Priority::Normal,
            ttl: None,
        }
    }

    pub(crate) fn envelope_mut(&mut self) -> &mut Envelope {
        let message = self.message.get_or_insert_default();
        &mut Arc::make_mut(message).envelope
    }

    /// Takes over a request that came from elsewhere; its payload counts unless it has none, and
    /// only what it leaves empty is filled in.
    pub(crate) fn forward(&mut self, envelope: Envelope) {
        *self.envelope_mut() = envelope;
        self.forwarded = true;
    }

    /// Completes the envelope, addresses it and begins its span.
    pub(crate) fn finish(self, reply_to: Option<&Subject>) -> Result<Finished, Error> {
        self.bus.check_open()?;
        let mut sent = self.message.unwrap_or_default();
        let message = Arc::make_mut(&mut sent);
        let envelope = &mut message.envelope;
        if envelope.payload.is_none() {
            envelope.payload = self.payload?;
        }
        let made_at = match self.forwarded {
            true => complete(envelope, &self.purpose),
            false => begin(envelope, &self.purpose),
        };
        if let Some(inbox) = reply_to {
            envelope.reply_to = copied(inbox.text());
        }
        self.bus.prepare(envelope);
        let sink = self.bus.inner().spans.as_ref();
        let span = match envelope.frame_type.is_empty() {
            true => OpenSpan::publish(sink, envelope),
            false => OpenSpan::call(sink, envelope),
        };
        let purpose = &self.purpose;
        let resolve = |space: &SubjectSpace, envelope: &Envelope| purpose.subject(space, envelope);
        message.subject = self.bus.subject(envelope, resolve)?;
        message.priority = self.priority;
        message.expires_at = self
            .ttl
            .and_then(|ttl| std::time::Instant::now().checked_add(ttl));
        Ok(Finished {
            span: span.addressed(message.subject.as_str()),
            message: sent,
            made_at,
        })
    }
}

/// What is ready to be sent.
pub(crate) struct Finished {
    pub(crate) message: Arc<Message>,
    pub(crate) span: OpenSpan,
    /// The moment of its time stamp, if it got that here.
    pub(crate) made_at: Option<Instant>,
}

/// Makes an envelope of our own what its purpose asks for.
fn begin(envelope: &mut Envelope, purpose: &Purpose) -> Option<Instant> {
    let mut made_at = None;
    if envelope.event_id.is_absent() {
        let (stamp, now) = mint::stamp_and_moment();
        envelope.event_id = stamp.event_id;
        envelope.occurred_at = stamp.occurred_at;
        made_at = Some(now);
    }
    match purpose {
        Purpose::Call(target) => {
            envelope.event_type = EventType::MESSAGE_RECEIVED;
            envelope.frame_type = FrameKind::Request.text();
            envelope.to = copied(target);
        }
        Purpose::Event(event_type) => envelope.event_type = EventType::new(copied(event_type)),
    }
    made_at
}

/// Fills in what an envelope from elsewhere leaves empty.
fn complete(envelope: &mut Envelope, purpose: &Purpose) -> Option<Instant> {
    if let Purpose::Call(target) = purpose
        && envelope.to.is_empty()
    {
        envelope.to = copied(target);
    }
    if envelope.frame_type.is_empty() {
        envelope.frame_type = FrameKind::Request.text();
    }
    None
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
