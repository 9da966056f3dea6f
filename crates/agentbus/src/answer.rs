//! Answers on their way back to the caller.

use std::sync::Arc;

use agentbus_protocol::{Envelope, Subject, copied};
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
    let envelope = &request.envelope;
    let sent = match outcome {
        Ok(value) => publish(bus, envelope, |reply| success(reply, bus, envelope, value)),
        Err(failure) => publish(bus, envelope, |reply| {
            failed(reply, bus, envelope, &failure);
        }),
    };
    let sent = match sent {
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
    let sent = publish(bus, request, |reply| success(reply, bus, request, value));
    delivered(bus, request, sent).await
}

/// Waits until a reply is sent. One that the carrier finds too large becomes an error reply,
/// because a caller must not wait for what will never come.
async fn delivered(bus: &Bus, request: &Envelope, sent: Result<Sent, Error>) -> Result<(), Error> {
    match sent?.await {
        Err(failure @ TransportError::TooLarge { .. }) => {
            let failure = failure.into();
            publish(bus, request, |reply| failed(reply, bus, request, &failure))?.await?;
        }
        outcome => drop(outcome?),
    }
    Ok(())
}

fn success(reply: &mut Envelope, bus: &Bus, request: &Envelope, value: Reply) {
    let from = bus.agent_id_text();
    let payload = match value {
        Reply::Empty => None,
        Reply::Payload(payload) => Some(payload),
        Reply::Envelope(envelope) => {
            *reply = request.adopt_reply(*envelope, from);
            return;
        }
    };
    reply.become_final_reply(request, mint::stamp(), copied(from), payload);
}

fn failed(reply: &mut Envelope, bus: &Bus, request: &Envelope, failure: &Error) {
    let from = bus.agent_id_text().clone();
    *reply = request.error_reply(mint::stamp(), from, &failure.to_payload());
}

/// Sends a reply. It is written where it will travel: an envelope is large, and one that was just
/// written is slow to copy.
fn publish(
    bus: &Bus,
    request: &Envelope,
    write: impl FnOnce(&mut Envelope),
) -> Result<Sent, Error> {
    let subject = address(bus, request)?;
    let mut message = Arc::<Message>::default();
    let blank = Arc::make_mut(&mut message);
    blank.subject = subject;
    write(&mut blank.envelope);
    let options = PublishOptions::default();
    Ok(bus.transport().publish(message, options))
}

fn address(bus: &Bus, request: &Envelope) -> Result<Subject, Error> {
    if request.reply_to.is_empty() {
        return Err(Error::NoReplyTo);
    }
    let subject = Subject::from_text(&request.reply_to)?;
    if !bus.subjects().takes_replies(&subject) {
        return Err(Error::invalid_request(format!(
            "`{subject}` takes no replies; a reply goes to an inbox or to an event"
        )));
    }
    Ok(subject)
}
