//! The transport contract over a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus_protocol::{ErrorCode, ErrorPayload, Pattern, Subject, SubjectSpace, Text};
use agentbus_transport::{
    BoxFuture, Capabilities, Capability, Completion, Confirmation, Drained, Durability,
    DurableInfo, Inbox, Message, Ordering, Overflow, PublishOptions, Receipt, Subscribe,
    Subscription, Transport, TransportError,
};

use crate::Builder;
use crate::carrier::{Carrier, StartAt, millis};
use crate::connect::Socket;
use crate::link::Link;
use crate::source::WsSource;
use crate::wire::{self, ClientFrame};

pub(crate) const NAME: &str = "agentbus";

/// What a connection gives at least; the carrier behind the bus may add to it.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    name: NAME,
    ordering: Ordering::PerPublisher,
    durability: Durability::Memory,
    confirmation: Confirmation::Handled,
    ack: true,
    redelivery: true,
    exact_attempts: false,
    replay: false,
    durable: false,
    durable_removal: false,
    durable_listing: false,
    lease: false,
    dead_letters: false,
    idempotency: false,
    queue_groups: true,
    shared_queues: true,
    mixed_groups: true,
    wildcards: true,
    priority: true,
    ttl: true,
    no_responder: true,
    backpressure: true,
    max_payload_bytes: Some(ENVELOPE_BYTES_MAX),
};

/// What the subject of a local inbox begins with. It never leaves this process: the server opens
/// a real inbox for each and puts its subject into the request.
const LOCAL_INBOX: &str = "_INBOX.local.";

/// A connection to a running bus.
#[derive(Debug)]
pub struct WsTransport {
    link: Arc<Link>,
    /// With what the carrier behind the bus adds.
    capabilities: Capabilities,
    /// Those of the bus, which takes nothing under another prefix.
    subjects: SubjectSpace,
}

impl WsTransport {
    /// What a connection gives at least; the carrier behind the bus may add to it.
    pub const CAPABILITIES: Capabilities = CAPABILITIES;

    /// Connects to the bus at `http://HOST:PORT`, speaking as `agent`, with the token that
    /// [`credentials::token`](crate::credentials::token) finds.
    ///
    /// # Errors
    /// See [`Builder::connect`].
    pub async fn connect(url: &str, agent: &str) -> Result<Self, TransportError> {
        Self::builder(url, agent).connect().await
    }

    /// Begins a connection that needs more settings.
    pub fn builder(url: &str, agent: &str) -> Builder {
        Builder::new(url, agent)
    }

    pub(crate) fn start(socket: Socket, carrier: Carrier, subjects: SubjectSpace) -> Self {
        Self {
            link: Link::start(socket),
            capabilities: carrier.extend(CAPABILITIES),
            subjects,
        }
    }
}

impl Transport for WsTransport {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn shared_topics(&self) -> &[Pattern] {
        self.subjects.topics()
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        if self.link.is_closed() {
            return Completion::ready(Err(TransportError::Closed));
        }
        if message.is_expired() {
            let subject = message.subject.clone();
            return Completion::ready(Err(TransportError::Expired { subject }));
        }
        if let Err(lacking) = self.capabilities.check_publish(&options) {
            return Completion::ready(Err(lacking));
        }
        let id = self.link.number();
        let frame = encode(&message, &options, id);
        if frame.len() > ENVELOPE_BYTES_MAX {
            let (bytes, limit) = (frame.len(), ENVELOPE_BYTES_MAX);
            let error = TransportError::TooLarge {
                transport: NAME,
                bytes,
                limit,
            };
            return Completion::ready(Err(error));
        }
        let answer = self.link.ask(id, frame);
        Completion::waiting(async move {
            let answer = answer.await?;
            let done = answer.map_err(|error| explain(error, &message.subject))?;
            done.receipt()
        })
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Subscription, TransportError>> {
        Box::pin(self.open(request))
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        if self.link.is_closed() {
            return Err(TransportError::Closed);
        }
        let sub = self.link.number();
        let text = format!("{LOCAL_INBOX}{sub}");
        let subject = Subject::parse(&text).map_err(|error| TransportError::Carrier {
            transport: NAME,
            reason: error.to_string(),
        })?;
        let messages = self.link.add_receiver(sub);
        Ok(Inbox::new(
            subject,
            WsSource::new(Arc::clone(&self.link), sub, messages),
        ))
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        Box::pin(async move {
            self.link.close(drain).await;
            Drained::default()
        })
    }

    fn subjects(&self) -> Option<SubjectSpace> {
        Some(self.subjects.clone())
    }

    fn remove_durable<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(self.forget(name))
    }

    fn durables(&self) -> BoxFuture<'_, Result<Vec<DurableInfo>, TransportError>> {
        Box::pin(self.list())
    }
}

impl WsTransport {
    async fn forget(&self, name: &str) -> Result<(), TransportError> {
        if self.link.is_closed() {
            return Err(TransportError::Closed);
        }
        self.capabilities.require(Capability::DurableRemoval)?;
        let id = self.link.number();
        let name = name.to_owned();
        let frame = wire::encode(&ClientFrame::RemoveDurable { id, name });
        let answer = self.link.ask(id, frame).await?;
        answer.map_err(TransportError::Remote)?;
        Ok(())
    }

    async fn list(&self) -> Result<Vec<DurableInfo>, TransportError> {
        if self.link.is_closed() {
            return Err(TransportError::Closed);
        }
        self.capabilities.require(Capability::DurableListing)?;
        let id = self.link.number();
        let frame = wire::encode(&ClientFrame::ListDurables { id });
        let answer = self.link.ask(id, frame).await?;
        answer.map_err(TransportError::Remote)?.durables()
    }

    async fn open(&self, request: Subscribe) -> Result<Subscription, TransportError> {
        if self.link.is_closed() {
            return Err(TransportError::Closed);
        }
        self.capabilities.check(&request)?;
        let (id, sub) = (self.link.number(), self.link.number());
        let messages = self.link.add_receiver(sub);
        // From here on, dropping the source tells the server.
        let source = WsSource::new(Arc::clone(&self.link), sub, messages);
        let frame = ClientFrame::Subscribe {
            id,
            sub,
            pattern: None,
            subject: Some(request.pattern.to_string()),
            group: request.group.map(|group| group.to_string()),
            capacity: Some(request.capacity),
            overflow: Some(overflow_name(request.overflow).to_owned()),
            window: Some(request.prefetch),
            durable: request.durable.map(|name| name.to_string()),
            start: StartAt::of(request.start),
            lease_ms: request.lease.map(millis),
            max_attempts: request.max_attempts,
        };
        let answer = self.link.ask(id, wire::encode(&frame)).await?;
        answer.map_err(TransportError::Remote)?;
        Ok(Subscription::new(source))
    }
}

const fn overflow_name(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Wait => "wait",
        Overflow::DropOldest => "drop_oldest",
        Overflow::Fail => "fail",
    }
}

fn encode(message: &Message, options: &PublishOptions, id: u64) -> String {
    let inbox = message.envelope.reply_to.strip_prefix(LOCAL_INBOX);
    let inbox = inbox.and_then(|number| number.parse().ok());
    let ttl = message.remaining_ttl().map(|ttl| ttl.as_millis());
    let frame = ClientFrame::Publish {
        id,
        event_type: None,
        subject: Some(message.subject.to_string()),
        payload: None,
        envelope: None,
        inbox,
        priority: Some(message.priority.name().to_owned()),
        ttl_ms: ttl.map(|ttl| u64::try_from(ttl).unwrap_or(u64::MAX)),
        confirm: options.confirm,
        require_responder: options.require_responder,
        key: options.idempotency_key.as_ref().map(ToString::to_string),
    };
    if inbox.is_none() {
        return wire::encode_with(&frame, &message.envelope);
    }
    let mut envelope = message.envelope.clone();
    envelope.reply_to = Text::default();
    wire::encode_with(&frame, &envelope)
}

/// Gives an answer of the server its own shape back where the caller acts on it.
fn explain(error: ErrorPayload, subject: &Subject) -> TransportError {
    match error.code {
        ErrorCode::NoHandler => TransportError::NoResponder {
            subject: subject.clone(),
        },
        _ => TransportError::Remote(error),
    }
}
