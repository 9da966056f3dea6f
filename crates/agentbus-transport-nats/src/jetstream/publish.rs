//! Publishing to the stream.

use std::borrow::Cow;
use std::sync::Arc;

use agentbus_protocol::Subject;
use agentbus_transport::{
    Completion, Durability, Message, PublishOptions, Receipt, TransportError, limits as common,
};
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, StatusCode};
use futures_util::TryStreamExt;
use rand::RngExt;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use crate::limits;
use crate::publish::{Outcome, pack};

use super::names;
use super::store::Store;

/// What a stream answers.
#[derive(Debug, Deserialize)]
struct Answer {
    error: Option<Refusal>,
    /// The message's number in the stream.
    #[serde(default)]
    seq: u64,
    /// Whether the stream had seen the id before.
    #[serde(default)]
    duplicate: bool,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: u16,
    /// What it is, where `code` is that of many.
    #[serde(default)]
    err_code: u64,
    description: String,
}

impl Refusal {
    /// Whether the stream has reached a limit. The server says so under the code of all that its
    /// store refuses, most of which passes; only the words tell.
    fn is_full(&self) -> bool {
        let words = &self.description;
        self.err_code == STORE_FAILED
            && words.starts_with("maximum ")
            && words.ends_with(" exceeded")
    }
}

/// What the server says when its store has not taken a message.
const STORE_FAILED: u64 = 10077;

/// How one attempt ended.
enum Attempt {
    Stored(Answer),
    /// Nobody knows; the same message id makes another attempt harmless.
    Unknown(String),
    /// The stream has reached a limit and forgets nothing for what is new.
    Full(String),
    Refused(String),
}

/// Publishes a message that the stream keeps. Completes when the stream has it.
pub(super) fn publish(
    store: &Arc<Store>,
    message: &Message,
    options: &PublishOptions,
) -> Completion<Outcome> {
    let packed = match pack(&store.link, message) {
        Ok(packed) => packed,
        Err(error) => return Completion::ready(Err(error)),
    };
    let key = options.idempotency_key.as_deref();
    if let Some(key) = key
        && key.len() > common::IDEMPOTENCY_KEY_BYTES_MAX
    {
        return Completion::ready(Err(TransportError::TooLarge {
            transport: store.link.name(),
            bytes: key.len(),
            limit: common::IDEMPOTENCY_KEY_BYTES_MAX,
        }));
    }
    store.link.count_publish();
    let headers = identified(packed.headers, key);
    let outgoing = OutboundMessage {
        subject: message.subject.as_str().into(),
        reply: None,
        payload: packed.body,
        headers: Some(headers),
    };
    let order = Order {
        outgoing,
        has_key: key.is_some(),
        is_asked: super::is_asked(message),
    };
    let (store, subject) = (Arc::clone(store), message.subject.clone());
    let wanted = options.require_responder;
    Completion::waiting(async move {
        if wanted && !has_listener(&store, &subject).await? {
            return Err(TransportError::NoResponder { subject });
        }
        append(&store, &subject, order).await
    })
}

/// A message on its way into the stream.
struct Order {
    outgoing: OutboundMessage,
    /// Whether its publisher named it, and is to hear of a repetition.
    has_key: bool,
    /// Whether somebody waits for an answer to it.
    is_asked: bool,
}

/// Stores a message, trying again under the same id for as long as it is worth it.
async fn append(store: &Store, subject: &Subject, order: Order) -> Outcome {
    let Ok(_place) = store.in_flight.acquire().await else {
        return Err(TransportError::Closed);
    };
    let mut first = true;
    let until = Instant::now() + limits::PUBLISH_TIMEOUT;
    loop {
        match attempt(store, order.outgoing.clone()).await? {
            // The stream has it because of its subject, which is more than was asked for.
            Attempt::Stored(_) if order.is_asked => {
                return Ok(Receipt::new(Durability::Memory, None));
            }
            Attempt::Stored(answer) => {
                let receipt = Receipt::logged(store.durability(), None, answer.seq);
                // What our own earlier attempt has stored is no repetition of the publisher's.
                let repeated = answer.duplicate && order.has_key && first;
                return Ok(if repeated {
                    receipt.repeated()
                } else {
                    receipt
                });
            }
            Attempt::Full(reason) => return Err(store.full(reason)),
            Attempt::Refused(reason) => return Err(store.failed(reason)),
            Attempt::Unknown(reason) if Instant::now() >= until => {
                return Err(store.failed(format!("{reason}; the message may or may not be kept")));
            }
            Attempt::Unknown(reason) => {
                tracing::debug!(%subject, %reason, "publishing again under the same id");
                first = false;
                sleep(limits::PUBLISH_PAUSE).await;
            }
        }
    }
}

/// Gives a message the id by which the stream recognises it: its publisher's, or one for our own
/// further attempts.
fn identified(headers: Option<HeaderMap>, key: Option<&str>) -> HeaderMap {
    let mut headers = headers.unwrap_or_default();
    match key {
        Some(key) => headers.insert(NATS_MESSAGE_ID, &*header_text(key)),
        None => headers.insert(
            NATS_MESSAGE_ID,
            Subject::inbox(rand::rng().random()).as_str(),
        ),
    }
    headers
}

/// A key as it can stand in a header: as it is wherever that is possible, so that other programs
/// find it under the same id.
fn header_text(key: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    if key.bytes().all(plain) {
        return Cow::Borrowed(key);
    }
    let bytes = key.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    Cow::Owned(bytes.collect())
}

async fn attempt(store: &Store, mut outgoing: OutboundMessage) -> Result<Attempt, TransportError> {
    let link = &store.link;
    let mut question = link.inbox().ask();
    outgoing.reply = Some(question.subject());
    let round = async {
        link.send(outgoing).await?;
        question.answer().await.ok_or(TransportError::Closed)
    };
    let within = limits::PUBLISH_ATTEMPT;
    let Ok(answer) = timeout(within, round).await else {
        return Ok(Attempt::Unknown(format!(
            "no confirmation within {within:?}"
        )));
    };
    let answer = answer?;
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Ok(Attempt::Unknown("the stream is not there".to_owned()));
    }
    Ok(match serde_json::from_slice(&answer.payload) {
        Ok(answer @ Answer { error: None, .. }) => Attempt::Stored(answer),
        Ok(Answer {
            error: Some(refusal),
            ..
        }) if refusal.is_full() => Attempt::Full(refusal.description),
        Ok(Answer {
            error: Some(refusal),
            ..
        }) if refusal.code == 503 => Attempt::Unknown(refusal.description),
        Ok(Answer {
            error: Some(refusal),
            ..
        }) => Attempt::Refused(refusal.description),
        Err(error) => Attempt::Refused(format!("an answer that cannot be read: {error}")),
    })
}

/// Whether anybody waits for or works on messages of this subject.
async fn has_listener(store: &Store, subject: &Subject) -> Result<bool, TransportError> {
    let mut consumers = store.stream.consumers();
    loop {
        let next = consumers.try_next().await;
        let Some(info) = next.map_err(|error| store.failed(error))? else {
            return Ok(false);
        };
        // A durable name receives even while nobody uses it. A member elsewhere counts once
        // somebody reads from it, for only then does it wait at the server.
        let busy = info.config.durable_name.is_some()
            || store.members.lock().contains_key(&info.name)
            || info.num_waiting > 0
            || info.num_ack_pending > 0;
        if busy && names::covers(&info.config.filter_subject, subject.as_str()) {
            return Ok(true);
        }
    }
}
