//! Answers on their way back to the caller.

use std::sync::Arc;

use agentbus_protocol::{Envelope, Subject};
use agentbus_transport::{Completion, Message, PublishOptions, Receipt, TransportError};

use crate::{Bus, Error, Reply, mint};

type Sent = Completion<Result<Receipt, TransportError>>;

/// Answers a request if it wants an answer. Nearly always that is done when this returns.
pub(crate) fn send(
    bus: &Bus,
    request: &Arc<Message>,
    outcome: Result<Reply, Error>,
) -> Completion<()> {
    if request.envelope.reply_to.is_empty() {
        return Completion::ready(());
    }
    let reply = match outcome {
        Ok(value) => success(bus, &request.envelope, value),
        Err(failure) => failed(bus, &request.envelope, &failure),
    };
    let sent = match publish(bus, &request.envelope, reply) {
        Ok(Completion::Ready(Some(Ok(_)))) => return Completion::ready(()),
        sent => sent,
    };
    let (bus, request) = (bus.clone(), Arc::clone(request));
    Completion::waiting(async move {
        let request = &request.envelope;
        if let Err(error) = delivered(&bus, request, sent).await {
            let event_id = &request.event_id;
            tracing::debug!(reply_to = %request.reply_to, %event_id, %error, "reply not delivered");
        }
    })
}

/// Sends the reply to a request.
pub(crate) async fn reply(bus: &Bus, request: &Envelope, value: Reply) -> Result<(), Error> {
    let sent = publish(bus, request, success(bus, request, value));
    delivered(bus, request, sent).await
}

/// Waits until a reply is sent. One that the carrier finds too large becomes an error reply,
/// because a caller must not wait for what will never come.
async fn delivered(bus: &Bus, request: &Envelope, sent: Result<Sent, Error>) -> Result<(), Error> {
    match sent?.await {
        Err(failure @ TransportError::TooLarge { .. }) => {
            let reply = failed(bus, request, &failure.into());
            publish(bus, request, reply)?.await?;
        }
        outcome => drop(outcome?),
    }
    Ok(())
}

fn success(bus: &Bus, request: &Envelope, value: Reply) -> Envelope {
    let from = bus.agent_id_text();
    match value {
        Reply::Empty => request.final_reply(mint::stamp(), from.clone(), None),
        Reply::Payload(payload) => request.final_reply(mint::stamp(), from.clone(), Some(payload)),
        Reply::Envelope(envelope) => request.adopt_reply(*envelope, from),
    }
}

fn failed(bus: &Bus, request: &Envelope, failure: &Error) -> Envelope {
    let from = bus.agent_id_text().clone();
    request.error_reply(mint::stamp(), from, &failure.to_payload())
}

fn publish(bus: &Bus, request: &Envelope, reply: Envelope) -> Result<Sent, Error> {
    if request.reply_to.is_empty() {
        return Err(Error::NoReplyTo);
    }
    let subject = Subject::from_text(&request.reply_to)?;
    if !bus.subjects().takes_replies(&subject) {
        return Err(Error::invalid_request(format!(
            "`{subject}` takes no replies; a reply goes to an inbox or to an event"
        )));
    }
    let message = Arc::new(Message::new(subject, reply));
    let options = PublishOptions::default();
    Ok(bus.transport().publish(message, options))
}
