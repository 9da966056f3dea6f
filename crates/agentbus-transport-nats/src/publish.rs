//! Publishing over core NATS.

use std::sync::Arc;

use agentbus_transport::{
    Completion, Durability, Message, PublishOptions, Receipt, TransportError,
};
use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;

use crate::link::Link;
use crate::{limits, wire};

pub(crate) type Outcome = Result<Receipt, TransportError>;

/// A message ready for the wire.
pub(crate) struct Packed {
    pub(crate) body: Bytes,
    pub(crate) headers: Option<HeaderMap>,
}

/// Checks a message and encodes it.
pub(crate) fn pack(link: &Link, message: &Message) -> Result<Packed, TransportError> {
    if link.is_closed() {
        return Err(TransportError::Closed);
    }
    if message.is_expired() {
        let subject = message.subject.clone();
        return Err(TransportError::Expired { subject });
    }
    let packed = link.dialect().pack(message);
    let (bytes, limit) = (
        wire::size(packed.headers.as_ref(), packed.body.len()),
        link.client().max_payload(),
    );
    if bytes > limit {
        return Err(TransportError::TooLarge {
            transport: link.name(),
            bytes,
            limit,
        });
    }
    Ok(packed)
}

/// Publishes a message that nobody keeps.
pub(crate) fn publish(
    link: &Arc<Link>,
    message: &Message,
    options: &PublishOptions,
) -> Completion<Outcome> {
    let packed = match pack(link, message) {
        Ok(packed) => packed,
        Err(error) => return Completion::ready(Err(error)),
    };
    link.count_publish();
    if message.subject.is_inbox() {
        return reply(link, message, packed);
    }
    let reply_to = message.envelope.reply_to.as_str();
    // A caller who waits at an inbox hears there that nobody listens.
    let told = link.inbox().holds(reply_to);
    let outgoing = OutboundMessage {
        subject: link
            .dialect()
            .place(message.subject.as_str())
            .as_ref()
            .into(),
        reply: (!reply_to.is_empty()).then(|| reply_to.into()),
        payload: packed.body,
        headers: packed.headers,
    };
    let link = Arc::clone(link);
    if options.confirm || (options.require_responder && !told) {
        let subject = message.subject.clone();
        return Completion::waiting(async move {
            if confirmed(&link, outgoing).await? {
                Ok(taken())
            } else {
                Err(TransportError::NoResponder { subject })
            }
        });
    }
    Completion::waiting(async move { link.send(outgoing).await.map(|()| taken()) })
}

/// Publishes a reply. A replier who streams hears soon that nobody reads it any more.
fn reply(link: &Arc<Link>, message: &Message, packed: Packed) -> Completion<Outcome> {
    let inbox = message.subject.as_str();
    if link.inbox().is_gone(inbox) {
        let subject = message.subject.clone();
        return Completion::ready(Err(TransportError::NoResponder { subject }));
    }
    // After the last reply there is nothing left to stop.
    let when_gone = (!message.envelope.is_final)
        .then(|| link.inbox().when_gone(inbox))
        .flatten();
    let outgoing = OutboundMessage {
        subject: inbox.into(),
        reply: when_gone.map(Into::into),
        payload: packed.body,
        headers: packed.headers,
    };
    let link = Arc::clone(link);
    Completion::waiting(async move { link.send(outgoing).await.map(|()| taken()) })
}

const fn taken() -> Receipt {
    Receipt::new(Durability::Memory, None)
}

/// Sends a message and waits until the server has dealt with it. Returns whether anybody listens.
///
/// The message asks for an answer at a subject of ours and is followed by an echo to the same
/// subject: the server says first that nobody listens, or else the echo arrives.
async fn confirmed(link: &Link, mut outgoing: OutboundMessage) -> Result<bool, TransportError> {
    let mut question = link.inbox().ask();
    outgoing.reply = Some(question.subject());
    let echo = OutboundMessage {
        subject: question.subject(),
        reply: None,
        payload: Bytes::new(),
        headers: None,
    };
    let epoch = link.epoch();
    let round = async {
        link.send(outgoing).await?;
        link.send(echo).await?;
        question.answer().await.ok_or(TransportError::Closed)
    };
    let within = limits::CONFIRM_TIMEOUT;
    let answer = match tokio::time::timeout(within, round).await {
        Ok(answer) => answer?,
        Err(_) => return Err(unconfirmed(link)),
    };
    // An echo that took another connection proves nothing about the message before it.
    if link.epoch() != epoch {
        return Err(unconfirmed(link));
    }
    Ok(answer.status != Some(StatusCode::NO_RESPONDERS))
}

fn unconfirmed(link: &Link) -> TransportError {
    link.failed(
        "the connection broke while the message was on its way, so it may or may not have arrived",
    )
}

/// Whether a subject belongs to a call, which nobody keeps: an inbox, a request or its
/// cancellation, under whatever prefix and tenant. The first token that is of the grammar decides,
/// since names behind it may have any: `order.cancel` is an event.
pub(crate) fn is_call(subject: &str) -> bool {
    let mut tokens = subject.split('.');
    let kind = tokens.find(|token| ["events", "dlq", "invoke", "cancel"].contains(token));
    subject.starts_with("_INBOX.") || matches!(kind, Some("invoke" | "cancel"))
}

#[cfg(test)]
mod tests {
    use super::is_call;

    #[test]
    fn an_event_may_be_called_like_a_call() {
        for (subject, expected) in [
            ("acp.v1.invoke.echo", true),
            ("acp.v1.acme.cancel.events", true),
            ("_INBOX.0123456789abcdef", true),
            ("acp.v1.events.order.cancel", false),
            ("acp.v1.acme.events.invoke", false),
            ("acp.v1.dlq.order.cancel", false),
            ("acp.v1.events.>", false),
        ] {
            assert_eq!(is_call(subject), expected, "{subject}");
        }
    }
}
