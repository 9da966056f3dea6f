//! Whoever waits for the answer to a request.

use std::sync::Arc;
use std::time::SystemTime;

use agentbus_protocol::{ErrorCode, ErrorPayload, EventId, Stamp, Timestamp};
use agentbus_transport::Message;
use async_nats::message::OutboundMessage;
use rand::RngExt;

use crate::link::Link;
use crate::wire::Notice;

/// The caller of one request that only we were given.
#[derive(Debug)]
pub(crate) struct Asker {
    link: Arc<Link>,
    request: Arc<Message>,
}

impl Asker {
    /// The caller of a request, if it waits at an inbox.
    pub(crate) fn of(link: &Arc<Link>, request: &Arc<Message>) -> Option<Self> {
        request.asker().map(|_| Self {
            link: Arc::clone(link),
            request: Arc::clone(request),
        })
    }

    /// The same for a request that nobody has read yet.
    pub(crate) fn of_raw(link: &Arc<Link>, raw: &async_nats::Message) -> Option<Self> {
        let request = link.dialect().read(raw).ok()?;
        Self::of(link, &Arc::new(request))
    }

    /// Tells the caller that its request will not be answered: as an error reply, which any peer
    /// understands, marked for those who know the difference.
    pub(crate) fn lose(&self) {
        let request = &self.request.envelope;
        let error = ErrorPayload::new(
            ErrorCode::AgentUnavailable,
            "the agent that had the request has gone; try again",
        );
        let reply = request.error_reply(stamp(), request.to.clone(), &error);
        self.link.send_soon(OutboundMessage {
            subject: request.reply_to.as_str().into(),
            reply: None,
            payload: reply.encode().into(),
            headers: Some(Notice::Lost.headers()),
        });
    }
}

fn stamp() -> Stamp {
    let occurred_at = Timestamp::from_system_time(SystemTime::now());
    Stamp {
        event_id: EventId::v7(occurred_at.unix_millis(), &rand::rng().random()),
        occurred_at,
    }
}
