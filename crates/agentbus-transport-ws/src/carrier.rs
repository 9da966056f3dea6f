//! What the carrier behind a bus adds to a connection: the bus says it in its welcome.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentbus_transport::{Capabilities, Durability, Start};
use serde::{Deserialize, Serialize};

/// What can be asked of a bus because the transport that it runs on can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Carrier {
    /// Where a message is when its publish has been accepted.
    #[serde(default)]
    pub durability: Level,
    /// Whether a subscription can have a name that outlives its connection.
    #[serde(default)]
    pub durable: bool,
    /// Whether such a name can be removed.
    #[serde(default)]
    pub durable_removal: bool,
    /// Whether the names there are can be listed.
    #[serde(default)]
    pub durable_listing: bool,
    /// Whether a subscription can start in the past.
    #[serde(default)]
    pub replay: bool,
    /// Whether a message that is worked on for too long goes to somebody else.
    #[serde(default)]
    pub lease: bool,
    /// Whether a message that used up its attempts becomes a dead letter.
    #[serde(default)]
    pub dead_letters: bool,
    /// Whether a publish that is repeated under one key is stored once.
    #[serde(default)]
    pub idempotency: bool,
}

impl Carrier {
    /// What a transport adds.
    #[must_use]
    pub fn of(transport: &Capabilities) -> Self {
        Self {
            durability: transport.durability.into(),
            durable: transport.durable,
            durable_removal: transport.durable_removal,
            durable_listing: transport.durable_listing,
            replay: transport.replay,
            lease: transport.lease,
            dead_letters: transport.dead_letters,
            idempotency: transport.idempotency,
        }
    }

    /// A connection's own capabilities together with those of the carrier behind it.
    pub(crate) fn extend(self, connection: Capabilities) -> Capabilities {
        Capabilities {
            durability: self.durability.into(),
            durable: self.durable,
            durable_removal: self.durable_removal,
            durable_listing: self.durable_listing,
            replay: self.replay,
            lease: self.lease,
            dead_letters: self.dead_letters,
            idempotency: self.idempotency,
            ..connection
        }
    }
}

/// A [`Durability`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// In the memory of one process.
    #[default]
    Memory,
    /// With the operating system of one machine.
    Os,
    /// On the disk of one machine.
    Disk,
    /// On the disks of several machines.
    Replicated,
}

impl Level {
    /// Whether it is the least there is, which need not be said.
    pub(crate) const fn is_memory(&self) -> bool {
        matches!(self, Self::Memory)
    }
}

impl From<Durability> for Level {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Memory => Self::Memory,
            Durability::Os => Self::Os,
            Durability::Disk => Self::Disk,
            Durability::Replicated => Self::Replicated,
        }
    }
}

impl From<Level> for Durability {
    fn from(level: Level) -> Self {
        match level {
            Level::Memory => Self::Memory,
            Level::Os => Self::Os,
            Level::Disk => Self::Disk,
            Level::Replicated => Self::Replicated,
        }
    }
}

/// Where a subscription begins if not with what is published from now on: `"beginning"`,
/// `{"sequence":N}` or `{"time_ms":N}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// With the oldest message that is kept.
    Beginning,
    /// With a number of the log.
    Sequence(u64),
    /// With the first message at or after a time, in milliseconds since the Unix epoch.
    TimeMs(u64),
}

impl StartAt {
    pub(crate) fn of(start: Start) -> Option<Self> {
        match start {
            Start::New => None,
            Start::Beginning => Some(Self::Beginning),
            Start::Sequence(first) => Some(Self::Sequence(first)),
            Start::Time(time) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                Some(Self::TimeMs(millis(since)))
            }
        }
    }
}

impl From<StartAt> for Start {
    fn from(start: StartAt) -> Self {
        match start {
            StartAt::Beginning => Self::Beginning,
            StartAt::Sequence(first) => Self::Sequence(first),
            // A time that the clock cannot hold is later than any message.
            StartAt::TimeMs(ms) => UNIX_EPOCH
                .checked_add(Duration::from_millis(ms))
                .map_or_else(|| Self::Time(SystemTime::now()), Self::Time),
        }
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot go on should say where"
    )]

    use super::*;
    use crate::transport::CAPABILITIES;

    #[test]
    fn what_a_bus_does_not_say_it_cannot_do() {
        let said = r#"{"durability":"disk","durable":true,"durable_removal":true}"#;
        let said: Carrier = serde_json::from_str(said).unwrap();
        let able = said.extend(CAPABILITIES);
        assert!(able.durable && able.durable_removal);
        assert!(!able.durable_listing && !able.replay);
    }

    #[test]
    fn what_a_transport_adds_arrives() {
        let log = Capabilities {
            durable: true,
            durable_listing: true,
            ..CAPABILITIES
        };
        let said = serde_json::to_string(&Carrier::of(&log)).unwrap();
        let said: Carrier = serde_json::from_str(&said).unwrap();
        assert_eq!(said.extend(CAPABILITIES), log);
    }
}
