//! What a transport moves.

use std::time::{Duration, Instant};

use agentbus_protocol::{Envelope, Subject};

/// One envelope on its way, with what the carrier must know about it.
///
/// Handed around as `Arc<Message>`: all subscribers in one process share one message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it goes.
    pub subject: Subject,
    /// What it says.
    pub envelope: Envelope,
    /// Which lane it takes.
    pub priority: Priority,
    /// From when on it must not be handed to a subscriber any more.
    pub expires_at: Option<Instant>,
}

/// The room for a message; see [`Envelope::BLANK`].
impl Default for Message {
    #[inline]
    fn default() -> Self {
        Self::new(Subject::UNSET, Envelope::BLANK)
    }
}

impl Message {
    /// Makes a message of normal priority that does not expire.
    #[must_use]
    #[inline]
    pub const fn new(subject: Subject, envelope: Envelope) -> Self {
        Self {
            subject,
            envelope,
            priority: Priority::Normal,
            expires_at: None,
        }
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires_at
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The inbox at which somebody waits for an answer; `None` when nobody does.
    #[must_use]
    pub fn asker(&self) -> Option<Subject> {
        let inbox = Subject::from_text(&self.envelope.reply_to).ok()?;
        inbox.is_inbox().then_some(inbox)
    }

    /// The time that is left; `None` when the message does not expire.
    #[must_use]
    pub fn remaining_ttl(&self) -> Option<Duration> {
        self.expires_at
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// The lane of a message: within one queue a higher lane is always served first.
///
/// The numbers are those that AMB peers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Work that may wait for ever.
    Background = 0,
    /// Below the ordinary.
    Low = 1,
    /// The default.
    #[default]
    Normal = 5,
    /// Before the ordinary.
    High = 8,
    /// Someone is waiting.
    Urgent = 10,
    /// Before everything else.
    Critical = 15,
}

impl Priority {
    /// All six, lowest first.
    pub const ALL: [Self; 6] = [
        Self::Background,
        Self::Low,
        Self::Normal,
        Self::High,
        Self::Urgent,
        Self::Critical,
    ];

    /// The lane number: 0 is served first.
    #[must_use]
    pub const fn lane(self) -> usize {
        match self {
            Self::Critical => 0,
            Self::Urgent => 1,
            Self::High => 2,
            Self::Normal => 3,
            Self::Low => 4,
            Self::Background => 5,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
            Self::Critical => "critical",
        }
    }

    /// Reads a name in any case, or one of the six numbers.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.parse::<u8>().ok();
        Self::ALL.into_iter().find(|priority| {
            number == Some(priority.number()) || priority.name().eq_ignore_ascii_case(text)
        })
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
