//! A message in a subscriber's hands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{Envelope, Subject};

use crate::{Completion, Message, TransportError};

/// What a subscription or an inbox yields.
#[derive(Debug)]
pub enum Received {
    /// A message to act on.
    Live(Delivery),
    /// A message whose deadline passed before it got here. It must not be acted on, but whoever
    /// waits for an answer can be told.
    Expired(Delivery),
    /// For an inbox: the carrier says that nobody serves what was asked.
    NoResponder,
    /// For an inbox: the request was given up before it was answered, because its agent ended or
    /// a queue lost it. Nothing more will come.
    Lost,
}

impl Received {
    /// A reply as its caller gets it. There is nothing to decide about it.
    #[must_use]
    pub fn reply(message: Arc<Message>) -> Self {
        let expired = message.is_expired();
        let delivery = Delivery::new(message, 1);
        if expired {
            Self::Expired(delivery)
        } else {
            Self::Live(delivery)
        }
    }
}

/// What a subscriber decides about a delivery.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Handled.
    Ack,
    /// Not handled; deliver again after the delay.
    Nak {
        /// The message, for transports that do not keep what they have handed out.
        message: Arc<Message>,
        /// Which attempt failed, from 1.
        attempt: u32,
        /// How long to wait first.
        delay: Duration,
    },
    /// Still working; do not give it to somebody else for this long.
    Extend {
        /// The new lease, counted from now.
        lease: Duration,
    },
    /// Dropped without a word: the subscriber panicked, was cancelled or forgot.
    Abandoned,
    /// Refused for good: do not deliver again.
    Reject,
}

/// The side of a transport that hears verdicts.
///
/// Shared by many deliveries; `token` tells them apart where the transport needs that.
pub trait Settle: fmt::Debug + Send + Sync {
    /// Takes a verdict on a delivery.
    fn settle(
        self: Arc<Self>,
        token: u128,
        verdict: Verdict,
    ) -> Completion<Result<(), TransportError>>;
}

/// A message handed to one subscriber, to be settled by [`ack`](Self::ack), [`nak`](Self::nak) or
/// [`reject`](Self::reject). Dropping it unsettled counts as [`Verdict::Abandoned`].
pub struct Delivery {
    message: Arc<Message>,
    attempt: u32,
    missed: u64,
    sequence: Option<u64>,
    settlement: Settlement,
}

/// The right to decide about one delivery. Dropping it undecided counts as
/// [`Verdict::Abandoned`].
#[derive(Debug)]
pub struct Settlement {
    /// In words: as one number it would have each delivery aligned to 16 bytes, and its outcome
    /// looked up in as many.
    token: [u64; 2],
    /// Taken with the verdict; `None` from the start where the transport hears none.
    settle: Option<Arc<dyn Settle>>,
}

impl Settlement {
    /// Gives the verdict. Only the first that ends a delivery counts.
    pub fn settle(&mut self, verdict: Verdict) -> Completion<Result<(), TransportError>> {
        let settle = match verdict {
            Verdict::Extend { .. } => self.settle.clone(),
            _ => self.settle.take(),
        };
        match settle {
            Some(settle) => settle.settle(joined(self.token), verdict),
            None => Completion::ready(Ok(())),
        }
    }
}

/// A number of 128 bits as two words, the lower one first.
const fn split(number: u128) -> [u64; 2] {
    [number as u64, (number >> 64) as u64]
}

/// The number that was split.
const fn joined([low, high]: [u64; 2]) -> u128 {
    (high as u128) << 64 | low as u128
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if self.settle.is_some() {
            // There is nobody left to wait for the outcome; transports act on abandonment at once.
            drop(self.settle(Verdict::Abandoned));
        }
    }
}

impl Delivery {
    /// Makes a delivery of a transport that takes no verdicts.
    #[must_use]
    pub const fn new(message: Arc<Message>, attempt: u32) -> Self {
        Self {
            message,
            attempt,
            missed: 0,
            sequence: None,
            settlement: Settlement {
                token: [0; 2],
                settle: None,
            },
        }
    }

    /// Attaches the side that hears the verdict.
    #[must_use]
    pub fn settled_by(mut self, settle: Arc<dyn Settle>, token: u128) -> Self {
        self.settlement = Settlement {
            token: split(token),
            settle: Some(settle),
        };
        self
    }

    /// Splits the message from the right to decide about it.
    #[must_use]
    pub fn into_parts(self) -> (Arc<Message>, Settlement) {
        (self.message, self.settlement)
    }

    /// Says how many messages this subscriber lost just before this one.
    #[must_use]
    pub const fn after_missing(mut self, missed: u64) -> Self {
        self.missed = missed;
        self
    }

    /// Says which number the message has in the transport's log.
    #[must_use]
    pub const fn numbered(mut self, sequence: u64) -> Self {
        self.sequence = Some(sequence);
        self
    }

    /// The message's number in the transport's log, from which [`Start::Sequence`](crate::Start)
    /// can begin again; `None` where it is in none.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// The message.
    #[must_use]
    pub const fn message(&self) -> &Arc<Message> {
        &self.message
    }

    /// The envelope.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.message.envelope
    }

    /// The subject it was published to.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.message.subject
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many messages the subscriber lost just before this one because it was too slow.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// The same delivery once its loss was reported.
    #[must_use]
    pub fn without_missed(self) -> Self {
        self.after_missing(0)
    }

    /// Says that the message was handled.
    pub fn ack(mut self) -> Completion<Result<(), TransportError>> {
        self.settlement.settle(Verdict::Ack)
    }

    /// Asks for the message again, to this subscriber or another of its group, after `delay`.
    pub fn nak(mut self, delay: Duration) -> Completion<Result<(), TransportError>> {
        self.settlement.settle(Verdict::Nak {
            message: self.message,
            attempt: self.attempt,
            delay,
        })
    }

    /// Refuses the message for good.
    pub fn reject(mut self) -> Completion<Result<(), TransportError>> {
        self.settlement.settle(Verdict::Reject)
    }

    /// Keeps the message for longer before it is given to somebody else.
    pub fn extend(&mut self, lease: Duration) -> Completion<Result<(), TransportError>> {
        self.settlement.settle(Verdict::Extend { lease })
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("subject", &self.message.subject)
            .field("event_id", &self.message.envelope.event_id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
