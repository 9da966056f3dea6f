//! Pieces for carriers that reach subscribers in other processes through a broker.

pub mod amb;
mod backoff;
mod hand;
mod inboxes;
mod leaving;
mod mailbox;
mod queue;
mod receivers;

use agentbus_protocol::{EventId, Stamp, Subject, Timestamp};
use rand::RngExt;

pub use backoff::Backoff;
pub use hand::{Hand, Handed, Taken};
pub use inboxes::Inboxes;
pub use leaving::Leaving;
pub use mailbox::{Mailbox, MailboxSource};
pub use queue::Queue;
pub use receivers::{Drain, Receivers};

/// What the subject of every inbox begins with.
pub const INBOX: &str = "_INBOX.";

/// The URL without the password that it may hold.
#[must_use]
pub fn hidden(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}://…@{place}"),
        None => url.to_owned(),
    }
}

/// A name that nobody can guess.
#[must_use]
pub fn token() -> String {
    let random = Subject::inbox(rand::rng().random());
    random.as_str()[INBOX.len()..].to_owned()
}

/// The stamp of an envelope that a carrier writes by itself.
#[must_use]
pub fn stamp() -> Stamp {
    let occurred_at = Timestamp::from_system_time(std::time::SystemTime::now());
    Stamp {
        event_id: EventId::v7(occurred_at.unix_millis(), &rand::rng().random()),
        occurred_at,
    }
}
