//! Publishing on a WebSocket.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use agentbus::protocol::{Subject, Timestamp};
use agentbus::transport::{Completion, Message, PublishOptions};
use agentbus::{Envelope, Error, EventType, Payload, Priority, Receipt, TransportError, mint};
use agentbus_transport_ws::wire::ClientFrame;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::connection::{Connection, Ended};

type Sent = Completion<Result<Receipt, TransportError>>;

impl Connection {
    /// Publishes, and answers when the transport has taken the message. One that makes us wait
    /// is waited for beside the other operations, so that a client can settle the very deliveries
    /// whose room it waits for.
    pub(super) async fn publish(&mut self, frame: ClientFrame) {
        let ClientFrame::Publish { id, .. } = frame else {
            return;
        };
        match self.send(frame) {
            Ok(Completion::Waiting(waiting)) => {
                let out = self.out.clone();
                self.tasks.spawn(async move {
                    out.answer(id, waiting.await.map_err(Error::from)).await;
                    Ended::Other
                });
            }
            Ok(sent) => self.out.answer(id, sent.await.map_err(Error::from)).await,
            Err(error) => self.out.answer(id, Err(error)).await,
        }
    }

    fn send(&mut self, frame: ClientFrame) -> Result<Sent, Error> {
        let ClientFrame::Publish {
            event_type,
            subject,
            payload,
            envelope,
            inbox,
            priority,
            ttl_ms,
            confirm,
            require_responder,
            key,
            ..
        } = frame
        else {
            return Err(Error::invalid_request("not a publish"));
        };
        self.check_room()?;
        let mut envelope = match envelope {
            Some(raw) => read_envelope(&raw)?,
            None => Envelope::new(
                mint::stamp(),
                EventType::new(event_type.clone().unwrap_or_default()),
            ),
        };
        if let Some(raw) = payload {
            envelope.payload = read_payload(&raw)?;
        }
        // Whoever the envelope says it is from, it is from this connection.
        envelope.from.clone_from(&self.agent);
        if let Some(number) = inbox {
            self.check_open()?;
            envelope.reply_to = self.inbox(number)?.as_str().into();
        }
        if event_type.is_some() && !self.space.tenant().is_empty() {
            envelope.context.edit().tenant_id = self.space.tenant().into();
        }
        let subject = self.address(event_type.as_deref(), subject.as_deref())?;
        self.check_reply_to(inbox, &subject, &envelope)?;
        let mut message = Message::new(subject, envelope);
        if let Some(number) = inbox {
            self.subscriptions.asks(number, &message);
        }
        message.priority = read_priority(priority.as_deref())?;
        message.expires_at =
            ttl_ms.and_then(|ttl| Instant::now().checked_add(Duration::from_millis(ttl)));
        let options = PublishOptions {
            confirm,
            require_responder,
            idempotency_key: key.map(Into::into),
        };
        let transport = self.app.bus.transport();
        transport.capabilities().check_publish(&options)?;
        Ok(transport.publish(Arc::new(message), options))
    }

    /// Refuses replies to where this connection's agent could not publish itself, and
    /// cancellations of requests that are not this connection's own.
    fn check_reply_to(
        &self,
        inbox: Option<u64>,
        subject: &Subject,
        envelope: &Envelope,
    ) -> Result<(), Error> {
        let space = self.app.bus.subjects();
        if inbox.is_none() && space.cancelled_by(subject).is_some() {
            return Err(Error::invalid_request(
                "a cancellation names the `inbox` of the request that it cancels",
            ));
        }
        if envelope.reply_to.is_empty() {
            return Ok(());
        }
        let reply_to = Subject::from_text(&envelope.reply_to)?;
        if space.takes_replies(&reply_to) {
            return Ok(());
        }
        Err(Error::invalid_request(format!(
            "`{reply_to}` takes no replies; name an `inbox`, or an event of this bus"
        )))
    }

    /// Resolves where a message goes; nothing outside the bus's own subjects can be addressed.
    fn address(&self, event_type: Option<&str>, subject: Option<&str>) -> Result<Subject, Error> {
        let subject = match (event_type, subject) {
            (Some(event_type), None) => return Ok(self.space.events(event_type)?),
            (None, Some(subject)) => Subject::parse(subject)?,
            _ => {
                return Err(Error::invalid_request(
                    "give either `event_type` or `subject`",
                ));
            }
        };
        if subject.is_inbox() || self.is_ours(subject.as_str()) {
            return Ok(subject);
        }
        Err(Error::invalid_request(format!(
            "{subject} is outside of this bus's subjects"
        )))
    }

    /// Whether a subject or pattern begins with the bus's prefix, or is shared with peers.
    pub(super) fn is_ours(&self, subject: &str) -> bool {
        let space = self.app.bus.subjects();
        let rest = subject.strip_prefix(space.prefix());
        rest.is_some_and(|rest| rest.starts_with('.')) || space.is_shared(subject)
    }
}

fn read_envelope(raw: &RawValue) -> Result<Envelope, Error> {
    let bytes = Bytes::copy_from_slice(raw.get().as_bytes());
    let now = Timestamp::from_system_time(SystemTime::now());
    Ok(Envelope::decode(&bytes, now)?)
}

pub(super) fn read_payload(raw: &RawValue) -> Result<Option<Payload>, Error> {
    Ok(Payload::from_bytes(&Bytes::copy_from_slice(
        raw.get().as_bytes(),
    ))?)
}

fn read_priority(name: Option<&str>) -> Result<Priority, Error> {
    let Some(name) = name else {
        return Ok(Priority::Normal);
    };
    Priority::parse(name).ok_or_else(|| {
        let names = Priority::ALL.map(Priority::name).join(", ");
        Error::invalid_request(format!("`{name}` is no priority; there are {names}"))
    })
}
