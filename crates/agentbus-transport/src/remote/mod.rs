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

/// The URL without the password that it may hold. A file has none.
#[must_use]
pub fn hidden(url: &str) -> String {
    if url.starts_with(['/', '.']) || url.starts_with("sqlite:") {
        return url.to_owned();
    }
    let Some((before, place)) = url.rsplit_once('@') else {
        return url.to_owned();
    };
    match before.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://…@{place}"),
        None => format!("…@{place}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_a_url_is_shown() {
        for (url, shown) in [
            ("redis://u:p@h:1/0", "redis://…@h:1/0"),
            ("http://u:p@x@h", "http://…@h"),
            ("amqp:u:p@h", "…@h"),
            ("u:p@h", "…@h"),
            ("nats://h:1", "nats://h:1"),
            ("sqlite:///a@b/bus.db", "sqlite:///a@b/bus.db"),
            ("/a@b/bus.db", "/a@b/bus.db"),
        ] {
            assert_eq!(hidden(url), shown);
        }
    }
}
