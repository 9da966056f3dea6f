//! Publishing.

use std::sync::Arc;

use agentbus_protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus_protocol::{EventId, Subject};
use agentbus_transport::clock::millis;
use agentbus_transport::remote::Inboxes;
use agentbus_transport::remote::amb::{self, Extra};
use agentbus_transport::{
    Completion, Durability, Message, Priority, PublishOptions, Receipt, TransportError,
};
use lapin::BasicProperties;
use lapin::types::ShortString;

use crate::errors::NAME;
use crate::limits;
use crate::link::Link;
use crate::names::check_key;
use crate::outlet::Parcel;

pub(crate) type Outcome = Result<Receipt, TransportError>;

/// The highest level of a queue with priorities: one for each lane.
pub(crate) const LEVELS: u8 = 5;

/// How the protocol numbers messages that outlive the broker, and those that do not.
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// Publishes a message. It is on its way when this returns, in the order of the calls.
pub(crate) fn publish(
    link: &Arc<Link>,
    message: &Message,
    options: &PublishOptions,
) -> Completion<Outcome> {
    if link.is_closed() {
        return Completion::ready(Err(TransportError::Closed));
    }
    let passing = message.subject.is_inbox() || is_request(message);
    let parcel = match pack(link, message, passing) {
        Ok(parcel) => parcel,
        Err(error) => return Completion::ready(Err(error)),
    };
    link.count_publish();
    let level = if !passing && link.kept().wants(message.subject.as_str()) {
        Durability::Disk
    } else {
        Durability::Memory
    };
    let receipt = Receipt::new(level, None);
    let outlet = Arc::clone(link.outlet());
    // A reply to nobody is known by its coming back, too.
    if options.require_responder || message.subject.is_inbox() {
        return Completion::waiting(async move { outlet.ask(parcel).await.map(|()| receipt) });
    }
    let sent = outlet.send(parcel);
    Completion::waiting(async move { sent.await.map(|()| receipt) })
}

fn pack(link: &Link, message: &Message, passing: bool) -> Result<Parcel, TransportError> {
    let subject = message.subject.clone();
    if message.is_expired() {
        return Err(TransportError::Expired { subject });
    }
    let is_reply = subject.is_inbox();
    if is_reply && link.inboxes().is_gone(subject.as_str()) {
        return Err(TransportError::NoResponder { subject });
    }
    let extra = Extra {
        notice: None,
        // After the last reply there is nothing left to stop.
        replier: (is_reply && !message.envelope.is_final)
            .then(|| link.inboxes().replier(subject.as_str()))
            .flatten(),
    };
    let body = amb::encode(message, &extra);
    if body.len() > ENVELOPE_BYTES_MAX {
        return Err(TransportError::TooLarge {
            transport: NAME,
            bytes: body.len(),
            limit: ENVELOPE_BYTES_MAX,
        });
    }
    let (exchange, key) = if is_reply {
        // Past the exchange, so that nobody who listens to everything hears it.
        let client = Inboxes::client_of(subject.as_str());
        (String::new(), link.names().inbox(client))
    } else {
        (link.names().exchange(), subject.as_str().to_owned())
    };
    Ok(Parcel {
        exchange: exchange.into(),
        key: check_key(key)?.into(),
        properties: properties(message, passing),
        body,
        subject,
    })
}

/// What the broker and AMB peers read beside the body.
pub(crate) fn properties(message: &Message, passing: bool) -> BasicProperties {
    let envelope = &message.envelope;
    let mode = if passing { TRANSIENT } else { PERSISTENT };
    let mut properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(mode)
        .with_priority(level(message.priority));
    if let Some(id) = short(&envelope.event_id) {
        properties = properties.with_message_id(id);
    }
    if let Some(id) = short(&envelope.correlation_id) {
        properties = properties.with_correlation_id(id);
    }
    if let Some(left) = message.remaining_ttl() {
        // What has run out is not sent; what is about to must not live for ever.
        properties = properties.with_expiration(millis(left).max(1).to_string().into());
    }
    properties
}

/// An id as a property, unless there is none or it is too long for one.
fn short(id: &EventId) -> Option<ShortString> {
    id.with_str(|id| {
        let fits = !id.is_empty() && id.len() <= limits::NAME_BYTES_MAX;
        fits.then(|| id.into())
    })
}

/// The level of a lane in a queue with priorities; there the highest number is served first.
fn level(priority: Priority) -> u8 {
    let lane = u8::try_from(priority.lane()).unwrap_or(LEVELS);
    LEVELS.saturating_sub(lane)
}

/// Whether somebody waits for an answer: a call is for now, and the disk is for later.
fn is_request(message: &Message) -> bool {
    Subject::from_text(&message.envelope.reply_to).is_ok_and(|reply_to| reply_to.is_inbox())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_levels_in_the_other_direction() {
        let levels = Priority::ALL.map(level);
        assert_eq!(levels, [0, 1, 2, 3, 4, LEVELS]);
    }
}
