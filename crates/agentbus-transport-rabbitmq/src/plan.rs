//! Which queue a member takes from, and how the broker keeps it.
//!
//! A durable name is a quorum queue: the broker writes down each attempt before it is made, and
//! confirms what is on disk. The members of a group share a queue in memory with priorities, which
//! the broker removes when nobody has used it for a while, whatever became of its members. Who asks
//! for a limit of attempts and nothing more has a queue that goes with its connection.

use agentbus_protocol::{Pattern, Text};
use agentbus_transport::{Subscribe, TransportError};
use lapin::Channel;
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::errors::{answered, asked, failed, reply};
use crate::limits;
use crate::names::{Names, binding};
use crate::publish::LEVELS;

/// What the broker answers to a declaration that differs from the queue that is there.
const PRECONDITION_FAILED: u16 = 406;

/// What it answers when the queue belongs to another connection.
pub(crate) const RESOURCE_LOCKED: u16 = 405;

/// The argument in which a durable name keeps what it is for. The broker compares it with each
/// declaration, and an operator can tell by it which name a dead letter came from.
const PURPOSE: &str = "x-dead-letter-routing-key";

/// A queue and how it is used.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) queue: String,
    pub(crate) pattern: Pattern,
    pub(crate) group: Option<Text>,
    key: String,
    kind: Kind,
}

/// How long a queue lives.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Until it is removed.
    Durable(Text),
    /// As long as it has members.
    Group(Text),
    /// As long as its only member.
    Lone,
}

impl Plan {
    pub(crate) fn new(
        request: &Subscribe,
        names: &Names,
        client: &str,
        number: u64,
    ) -> Result<Self, TransportError> {
        let pattern = request.pattern.clone();
        let key = binding(&pattern)?;
        let (kind, queue) = match (&request.durable, &request.group) {
            (Some(name), _) => (Kind::Durable(name.clone()), names.durable(name)?),
            (None, Some(group)) => {
                check_group(group, request)?;
                (Kind::Group(group.clone()), names.group(group, &pattern)?)
            }
            (None, None) => (Kind::Lone, names.plain(client, number)),
        };
        let plan = Self {
            queue,
            pattern,
            group: request.group.clone(),
            key,
            kind,
        };
        plan.check_purpose()?;
        Ok(plan)
    }

    pub(crate) const fn is_durable(&self) -> bool {
        matches!(self.kind, Kind::Durable(_))
    }

    pub(crate) const fn is_group(&self) -> bool {
        matches!(self.kind, Kind::Group(_))
    }

    /// Whether nobody else may take from the queue.
    pub(crate) const fn has_one_user(&self) -> bool {
        self.is_durable() && self.group.is_none()
    }

    /// The group and the pattern of a queue that lives as long as its members.
    pub(crate) fn live_group(&self) -> Option<(String, String)> {
        match &self.kind {
            Kind::Group(group) => Some((group.to_string(), self.pattern.to_string())),
            Kind::Durable(_) | Kind::Lone => None,
        }
    }

    /// What the queue of a durable name is for, in words that name the pattern first.
    fn purpose(&self) -> String {
        match &self.group {
            Some(group) => format!("{} of the group {group}", self.pattern),
            None => self.pattern.to_string(),
        }
    }

    fn check_purpose(&self) -> Result<(), TransportError> {
        let bytes = self.purpose().len();
        if !self.is_durable() || bytes <= limits::NAME_BYTES_MAX {
            return Ok(());
        }
        let limit = limits::NAME_BYTES_MAX;
        let reason = format!(
            "has a pattern and a group of {bytes} bytes together; RabbitMQ keeps at most {limit}"
        );
        Err(self.misuse(reason))
    }

    /// Makes the queue unless it is there, and binds it; every later publish reaches it when this
    /// returns.
    pub(crate) async fn declare(
        &self,
        channel: &Channel,
        names: &Names,
    ) -> Result<(), TransportError> {
        let options = QueueDeclareOptions {
            durable: self.is_durable(),
            exclusive: self.kind == Kind::Lone,
            ..QueueDeclareOptions::default()
        };
        let arguments = self.arguments(names);
        let declared = channel.queue_declare(self.queue.as_str().into(), options, arguments);
        let declared = answered(limits::RESPONSE_TIMEOUT, declared).await?;
        declared.map_err(|error| self.refused(&error))?;
        let bound = channel.queue_bind(
            self.queue.as_str().into(),
            names.exchange().into(),
            self.key.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        asked(bound).await?;
        if self.has_one_user() {
            self.lock(channel).await?;
        }
        Ok(())
    }

    fn arguments(&self, names: &Names) -> FieldTable {
        let mut arguments = FieldTable::default();
        let mut set = |key: &str, value| {
            arguments.insert(key.into(), value);
        };
        let text = |text: String| AMQPValue::LongString(text.into());
        // Refused, because a queue that is full must not forget silently.
        set("x-overflow", text("reject-publish".to_owned()));
        if self.is_durable() {
            set("x-queue-type", text("quorum".to_owned()));
            set("x-max-length", AMQPValue::LongUInt(limits::QUEUE_MESSAGES));
            set("x-dead-letter-exchange", text(names.dead()));
            set(PURPOSE, text(self.purpose()));
        } else if self.is_group() {
            let life = u32::try_from(limits::GROUP_LIFE.as_millis()).unwrap_or(u32::MAX);
            set("x-max-length", AMQPValue::LongUInt(limits::GROUP_MESSAGES));
            set("x-max-priority", AMQPValue::ShortShortUInt(LEVELS));
            set("x-expires", AMQPValue::LongUInt(life));
        } else {
            set("x-max-length", AMQPValue::LongUInt(limits::GROUP_MESSAGES));
        }
        arguments
    }

    /// Takes the name for this connection alone: a queue that belongs to it and goes with it.
    async fn lock(&self, channel: &Channel) -> Result<(), TransportError> {
        let own = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let lock = Names::lock(&self.queue);
        let taken = channel.queue_declare(lock.into(), own, FieldTable::default());
        let taken = answered(limits::RESPONSE_TIMEOUT, taken).await?;
        match taken {
            Ok(_) => Ok(()),
            Err(error) if reply(&error).is_some_and(|(code, _)| code == RESOURCE_LOCKED) => {
                Err(self.in_use())
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Gives the name up for another connection.
    pub(crate) async fn unlock(&self, channel: &Channel) {
        if self.has_one_user() {
            let lock = Names::lock(&self.queue);
            // Without a connection the broker does so itself.
            let _ = asked(channel.queue_delete(lock.into(), <_>::default())).await;
        }
    }

    /// Explains why the broker keeps another queue under this name.
    fn refused(&self, error: &lapin::Error) -> TransportError {
        let Some((PRECONDITION_FAILED, text)) = reply(error) else {
            return failed(error);
        };
        let kept = text
            .contains(PURPOSE)
            .then(|| kept(&text))
            .flatten()
            .map(|kept| format!("listens on {kept}; use the same, or another name"));
        let reason = kept.unwrap_or_else(|| {
            format!("is a queue of another kind at the broker ({text}); use another name")
        });
        self.misuse(reason)
    }

    pub(crate) fn in_use(&self) -> TransportError {
        let reason = "is in use; subscriptions that share one name need a group";
        self.misuse(reason.to_owned())
    }

    fn misuse(&self, reason: String) -> TransportError {
        let name = match &self.kind {
            Kind::Durable(name) | Kind::Group(name) => name.as_str(),
            Kind::Lone => &self.queue,
        };
        misuse(name, reason)
    }
}

fn check_group(group: &Text, request: &Subscribe) -> Result<(), TransportError> {
    if request.max_attempts.is_none() {
        return Ok(());
    }
    let reason = "is a group only; members that share a limit of attempts need a durable name too";
    Err(misuse(group, reason.to_owned()))
}

/// The value that the broker keeps, from its words `… but current is the value 'X' of type …`.
fn kept(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("current is the value '")?;
    rest.split_once("' of type").map(|(kept, _)| kept)
}

/// The error for a durable name that cannot be used like this.
pub(crate) fn misuse(name: &str, reason: String) -> TransportError {
    TransportError::Durable {
        name: name.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_is_for_is_read_from_the_refusal() {
        let text = "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-routing-key' for queue 'd' in vhost '/': received the value 'b' of type 'longstr' but current is the value 'a.* of the group g' of type 'longstr'";
        assert_eq!(kept(text), Some("a.* of the group g"));
        assert_eq!(kept("NOT_FOUND - no queue"), None);
    }
}
