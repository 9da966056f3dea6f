//! What a message looks like once nobody could handle it.
//!
//! The bus writes dead letters when a handler fails, a durable transport when a message has used up
//! its attempts. Both write the same metadata, so that whoever reads them need not know which.

use agentbus_protocol::{Envelope, SubjectSpace};

use crate::{Message, limits};

/// The type of the event that was not handled.
pub const ORIGINAL_EVENT_TYPE: &str = "acp.dlq.original_event_type";
/// The subject it was published to.
pub const ORIGINAL_SUBJECT: &str = "acp.dlq.original_subject";
/// Why it was given up, one word.
pub const REASON: &str = "acp.dlq.reason";
/// How many attempts were made.
pub const ATTEMPTS: &str = "acp.dlq.attempts";
/// The error of the first attempt.
pub const FIRST_ERROR: &str = "acp.dlq.first_error";
/// The error of the last attempt.
pub const LAST_ERROR: &str = "acp.dlq.last_error";

/// Every key that a dead letter carries.
pub const KEYS: [&str; 6] = [
    ORIGINAL_EVENT_TYPE,
    ORIGINAL_SUBJECT,
    REASON,
    ATTEMPTS,
    FIRST_ERROR,
    LAST_ERROR,
];

/// How a message died.
#[derive(Debug, Clone, Copy)]
pub struct Death<'a> {
    /// Why it was given up, one word.
    pub reason: &'a str,
    /// How many attempts were made.
    pub attempts: u32,
    /// The error of the first attempt.
    pub first_error: &'a str,
    /// The error of the last attempt.
    pub last_error: &'a str,
}

/// The envelope as it was, with what happened to it in its metadata.
#[must_use]
pub fn letter(message: &Message, death: Death<'_>) -> Envelope {
    let mut letter = message.envelope.clone();
    let event_type = letter.event_type.clone();
    let metadata = &mut letter.metadata;
    metadata.insert_text(ORIGINAL_EVENT_TYPE, event_type.as_str());
    metadata.insert_text(ORIGINAL_SUBJECT, message.subject.as_str());
    metadata.insert_text(REASON, death.reason);
    metadata.insert_text(FIRST_ERROR, cut(death.first_error));
    metadata.insert_text(LAST_ERROR, cut(death.last_error));
    // A number always has a JSON form.
    let _ = metadata.insert(ATTEMPTS, &death.attempts);
    letter
}

/// The letter of a dead message, addressed to `{prefix}.dlq.{event type}`; `None` for one that was a
/// letter itself: it would come back to whoever failed on it for ever.
#[must_use]
pub fn addressed(message: &Message, prefix: &str, death: Death<'_>) -> Option<Message> {
    let graves = format!("{prefix}.dlq.");
    if message.subject.as_str().starts_with(&graves) {
        return None;
    }
    let letter = letter(message, death);
    let space = SubjectSpace::new(prefix, "").unwrap_or_default();
    let grave = space
        .dlq(letter.event_type.as_str())
        .or_else(|_| space.dlq("unknown"));
    Some(Message::new(grave.ok()?, letter))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(limits::DEAD_LETTER_ERROR_BYTES)]
}
