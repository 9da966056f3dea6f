//! How an envelope lies in a NATS message.
//!
//! The body is the envelope and nothing else, as every OpenAgentIO peer expects it. Headers carry
//! only what an envelope cannot say, and only when there is something to say: a message of normal
//! priority that does not expire has none, so its bytes are those that other peers write.

use std::time::SystemTime;

use agentbus_protocol::{DecodeError, Envelope, Subject, SubjectError, Timestamp};
use agentbus_transport::clock::{instant_at, unix_millis_in};
use agentbus_transport::remote::amb;
use agentbus_transport::{Message, Priority};
use async_nats::{HeaderMap, HeaderName, HeaderValue};

/// When the message expires, in milliseconds since 1970.
pub(crate) const EXPIRES_AT: HeaderName = HeaderName::from_static("Agentbus-Expires-At");

/// The lane, as the number of [`Priority`].
pub(crate) const PRIORITY: HeaderName = HeaderName::from_static("Agentbus-Priority");

/// What a message without an envelope of its own wants to say; see [`Notice`].
pub(crate) const NOTICE: HeaderName = HeaderName::from_static("Agentbus-Notice");

/// Something one transport tells another about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The inbox that a reply was sent to is closed.
    Gone,
    /// Whoever had the request will not answer it. The body is an error reply, so that peers who
    /// do not know this header understand it as well.
    Lost,
}

impl Notice {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Lost => "lost",
        }
    }

    pub(crate) fn of(raw: &async_nats::Message) -> Option<Self> {
        let text = raw.headers.as_ref()?.get(NOTICE)?.as_str();
        [Self::Gone, Self::Lost]
            .into_iter()
            .find(|notice| notice.text() == text)
    }

    pub(crate) fn headers(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NOTICE, self.text());
        headers
    }
}

/// Why a NATS message cannot be handed out.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Subject(SubjectError),
    Envelope(DecodeError),
    Amb(amb::Unreadable),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Subject(error) => error.fmt(f),
            Self::Envelope(error) => error.fmt(f),
            Self::Amb(error) => error.fmt(f),
        }
    }
}

/// The headers that a message needs; usually none.
pub(crate) fn headers(message: &Message) -> Option<HeaderMap> {
    let expires = message.remaining_ttl().map(unix_millis_in);
    let lane = (message.priority != Priority::Normal).then_some(message.priority.number());
    if expires.is_none() && lane.is_none() {
        return None;
    }
    let mut headers = HeaderMap::new();
    if let Some(at) = expires {
        headers.insert(EXPIRES_AT, HeaderValue::from(at));
    }
    if let Some(lane) = lane {
        headers.insert(PRIORITY, HeaderValue::from(u64::from(lane)));
    }
    Some(headers)
}

/// How many bytes of the server's limit a message takes.
pub(crate) fn size(headers: Option<&HeaderMap>, body: usize) -> usize {
    // `NATS/1.0`, a line for each header and an empty one, each with its line end.
    let lines = headers.map_or(0, |headers| {
        let lines = headers.iter().flat_map(|(name, values)| {
            let name = AsRef::<[u8]>::as_ref(name).len();
            values
                .iter()
                .map(move |value| name + value.as_str().len() + 4)
        });
        12 + lines.sum::<usize>()
    });
    body + lines
}

/// Reads what the server delivered.
pub(crate) fn decode(raw: &async_nats::Message) -> Result<Message, Unreadable> {
    let subject = Subject::parse(raw.subject.as_str()).map_err(Unreadable::Subject)?;
    let received_at = Timestamp::from_system_time(SystemTime::now());
    let envelope = Envelope::decode(&raw.payload, received_at).map_err(Unreadable::Envelope)?;
    let mut message = Message::new(subject, envelope);
    if let Some(headers) = &raw.headers {
        let number = |name| {
            headers
                .get(name)
                .and_then(|value| value.as_str().parse::<u64>().ok())
        };
        message.expires_at = number(EXPIRES_AT).map(instant_at);
        let lane = headers.get(PRIORITY).map(HeaderValue::as_str);
        message.priority = lane.and_then(Priority::parse).unwrap_or_default();
    }
    Ok(message)
}

#[cfg(test)]
mod tests;
