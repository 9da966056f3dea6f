//! Publishing.

use std::sync::Arc;

use agentbus_protocol::Subject;
use agentbus_protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus_transport::remote::amb::{self, Extra};
use agentbus_transport::{Completion, Message, PublishOptions, TransportError, limits as common};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::batch::{Outcome, Outgoing};
use crate::commands::NAME;
use crate::link::Link;

/// Publishes a message. It is on its way when this returns, in the order of the calls.
pub(crate) fn publish(
    link: &Arc<Link>,
    message: &Message,
    options: &PublishOptions,
) -> Completion<Outcome> {
    if link.is_closed() {
        return Completion::ready(Err(TransportError::Closed));
    }
    match pack(link, message, options) {
        Ok((outgoing, done)) => hand_over(link, outgoing, done),
        Err(error) => Completion::ready(Err(error)),
    }
}

fn hand_over(
    link: &Link,
    outgoing: Outgoing,
    done: oneshot::Receiver<Outcome>,
) -> Completion<Outcome> {
    let Some(way) = link.outgoing() else {
        return Completion::ready(Err(TransportError::Closed));
    };
    link.count_publish();
    let waiting = match way.try_send(outgoing) {
        Ok(()) => None,
        Err(TrySendError::Closed(_)) => return Completion::ready(Err(TransportError::Closed)),
        Err(TrySendError::Full(outgoing)) => Some((way, outgoing)),
    };
    Completion::waiting(async move {
        if let Some((way, outgoing)) = waiting {
            let sent = way.send(outgoing).await;
            sent.map_err(|_| TransportError::Closed)?;
        }
        done.await.unwrap_or(Err(TransportError::Closed))
    })
}

fn pack(
    link: &Link,
    message: &Message,
    options: &PublishOptions,
) -> Result<(Outgoing, oneshot::Receiver<Outcome>), TransportError> {
    let subject = message.subject.clone();
    if message.is_expired() {
        return Err(TransportError::Expired { subject });
    }
    let is_reply = subject.is_inbox();
    if is_reply && link.inbox().calls().is_gone(subject.as_str()) {
        return Err(TransportError::NoResponder { subject });
    }
    let key = options.idempotency_key.as_deref().unwrap_or_default();
    if key.len() > common::IDEMPOTENCY_KEY_BYTES_MAX {
        return Err(TransportError::TooLarge {
            transport: NAME,
            bytes: key.len(),
            limit: common::IDEMPOTENCY_KEY_BYTES_MAX,
        });
    }
    let extra = Extra {
        notice: None,
        // After the last reply there is nothing left to stop.
        replier: (is_reply && !message.envelope.is_final)
            .then(|| link.inbox().calls().replier(subject.as_str()))
            .flatten(),
    };
    let data = amb::encode(message, &extra);
    if data.len() > ENVELOPE_BYTES_MAX {
        return Err(TransportError::TooLarge {
            transport: NAME,
            bytes: data.len(),
            limit: ENVELOPE_BYTES_MAX,
        });
    }
    let channel = if is_reply {
        link.inbox().channel_of(subject.as_str())
    } else {
        link.names().channel(subject.as_str())
    };
    let (sender, done) = oneshot::channel();
    let outgoing = Outgoing {
        channel,
        data: data.into(),
        key: key.to_owned(),
        logged: !is_reply && !is_request(message),
        required: options.require_responder,
        done: sender,
        subject,
    };
    Ok((outgoing, done))
}

/// Whether somebody waits for an answer: a call is for now, and the log is for later.
fn is_request(message: &Message) -> bool {
    Subject::from_text(&message.envelope.reply_to).is_ok_and(|reply_to| reply_to.is_inbox())
}
