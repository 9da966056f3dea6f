//! Whose peers a connection shares its events with.
//!
//! Calls have the same subjects and bytes either way: AMB has none that another program could
//! answer.

use std::borrow::Cow;

use agentbus_protocol::{Pattern, Subject};
use agentbus_transport::Message;
use agentbus_transport::remote::amb::{self, Extra};
use bytes::Bytes;

use crate::publish::{Packed, is_call};
use crate::wire::{self, Unreadable};

/// What AMB puts before a topic.
const AMB: &str = "amb.";

/// How events lie on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// An envelope under its own subject.
    #[default]
    OpenAgentIo,
    /// A message of AMB, which is an envelope as well, under `amb.` and the subject. The topics are
    /// those of its peers that are event types of the bus.
    Amb(Vec<Pattern>),
}

impl Dialect {
    /// Topics of AMB peers that are event types of the bus.
    pub(crate) fn topics(&self) -> &[Pattern] {
        match self {
            Self::OpenAgentIo => &[],
            Self::Amb(topics) => topics,
        }
    }

    /// Where the server finds a subject or a pattern.
    pub(crate) fn place<'a>(&self, subject: &'a str) -> Cow<'a, str> {
        match self.is_shared(subject) {
            true => Cow::Owned([AMB, subject].concat()),
            false => Cow::Borrowed(subject),
        }
    }

    /// Writes a message.
    pub(crate) fn pack(&self, message: &Message) -> Packed {
        if self.is_shared(message.subject.as_str()) {
            // Priority and expiry are members of what AMB writes.
            let body = amb::encode(message, &Extra::default()).into();
            return Packed {
                body,
                headers: None,
            };
        }
        Packed {
            body: Bytes::from(message.envelope.encode()),
            headers: wire::headers(message),
        }
    }

    /// Reads what the server delivered.
    pub(crate) fn read(&self, raw: &async_nats::Message) -> Result<Message, Unreadable> {
        match (self, raw.subject.strip_prefix(AMB)) {
            (Self::Amb(_), Some(subject)) => {
                let subject = Subject::parse(subject).map_err(Unreadable::Subject)?;
                let read = amb::decode_at(&raw.payload, subject);
                Ok(read.map_err(Unreadable::Amb)?.message)
            }
            _ => wire::decode(raw),
        }
    }

    fn is_shared(&self, subject: &str) -> bool {
        // A topic may be named like a call of some other bus.
        matches!(self, Self::Amb(topics) if topics.iter().any(|topic| topic.covers(subject)) || !is_call(subject))
    }
}
