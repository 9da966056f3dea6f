//! Where envelopes go: the subject grammar.
//!
//! ```text
//! events   {prefix}[.{tenant}].events.{event_type}
//! invoke   {prefix}[.{tenant}].invoke.{target}
//! cancel   {prefix}[.{tenant}].cancel.{target}
//! dlq      {prefix}.dlq.{event_type}
//! inbox    _INBOX.{16 random letters, digits, - and _}
//! topic    {event_type}
//! ```
//!
//! A topic is an event that is shared with peers who know no prefix, see [`SubjectSpace::sharing`].
//! Event types and targets may contain dots; a tenant is one token. Unlike other implementations
//! of this grammar, names are checked before they become part of a subject, so that a tenant
//! called `>` or `a.invoke` cannot reach into another tenant.

use std::fmt;

use smol_str::SmolStrBuilder;

use crate::limits::{NAME_BYTES_MAX, SUBJECT_BYTES_MAX, SUBJECT_TOKENS_MAX};
use crate::pattern::overlap;
use crate::{Pattern, PatternError, Text};

/// The prefix that peers agree on unless told otherwise.
pub const DEFAULT_PREFIX: &str = "acp.v1";

/// What the subject of every inbox begins with.
const INBOX_PREFIX: &str = "_INBOX.";

/// The random part of an inbox's subject, in bytes.
pub const INBOX_TOKEN: usize = 16;

/// Tokens that say what a subject is for, and so can neither name a tenant nor stand in a prefix.
const GRAMMAR: [&str; 4] = ["events", "invoke", "cancel", "dlq"];

/// A full subject without wildcards: tokens of printable text, separated by dots.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Text);

/// Tells why a text cannot be a subject or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Nothing there.
    #[error("the {what} is empty")]
    Empty {
        /// Which name: `event type`, `target`, `tenant` …
        what: &'static str,
    },
    /// More bytes or tokens than the limit.
    #[error("the {what} is longer than {limit} bytes or has more than {SUBJECT_TOKENS_MAX} tokens")]
    TooLong {
        /// Which name.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// Two dots in a row, or one at an end.
    #[error("the {what} `{text}` has an empty token; write names such as `order.paid`")]
    EmptyToken {
        /// Which name.
        what: &'static str,
        /// The refused text.
        text: String,
    },
    /// A blank, a control character or a wildcard.
    #[error("the {what} `{text}` contains {found:?}, which no subject can hold")]
    Character {
        /// Which name.
        what: &'static str,
        /// The refused text.
        text: String,
        /// The offending character.
        found: char,
    },
    /// A tenant of several tokens, or one whose name is part of the grammar.
    #[error(
        "`{0}` cannot name a tenant: it must be one token and none of events, invoke, cancel, dlq"
    )]
    Tenant(String),
    /// A prefix with a token that means something else to the bus, or to what carries it.
    #[error(
        "`{prefix}` cannot be the prefix of a bus because of `{token}`: {why}; name another, such as `acp.v1` or `corp.bus`"
    )]
    Prefix {
        /// The refused prefix.
        prefix: String,
        /// The token that is taken.
        token: String,
        /// What it means.
        why: &'static str,
    },
    /// A topic to be shared that has subjects of the bus itself among those that it matches.
    #[error(
        "the topic `{topic}` cannot be shared with peers: subjects of the bus itself, which begin with `{prefix}.` or `{INBOX_PREFIX}`, match it too; name topics of your own, such as `orders`"
    )]
    Topic {
        /// The refused topic.
        topic: String,
        /// The prefix of the bus.
        prefix: String,
    },
}

impl Subject {
    /// No subject yet: what a message has until it is addressed.
    pub const UNSET: Self = Self(Text::new_static(""));

    /// Reads a full subject.
    ///
    /// # Errors
    /// Fails on empty tokens, blanks, control characters, wildcards and over-long text.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        check_name("subject", text, SUBJECT_BYTES_MAX)?;
        Ok(Self(Text::from(text)))
    }

    /// Takes a full subject from a field of an envelope, without a copy.
    ///
    /// # Errors
    /// As [`Subject::parse`].
    pub fn from_text(text: &Text) -> Result<Self, SubjectError> {
        if !is_own_inbox(text) {
            check_name("subject", text, SUBJECT_BYTES_MAX)?;
        }
        Ok(Self(crate::copied(text)))
    }

    /// Clones a subject of the hot path; see [`copied`](crate::copied).
    #[must_use]
    pub fn copied(&self) -> Self {
        Self(crate::copied(&self.0))
    }

    /// The subject as it is written into a field of an envelope, without a copy.
    #[must_use]
    pub fn text(&self) -> &Text {
        &self.0
    }

    /// Makes the subject of an inbox from 96 of these random bits. Nobody must be able to guess it,
    /// since whoever knows it can answer the call. It is short enough for a [`Text`] that needs no
    /// allocation.
    #[must_use]
    pub fn inbox(random: [u64; 2]) -> Self {
        const DIGITS: &[u8; 64] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-";
        // A word at a time: bytes that were just written one by one are slow to read back as words.
        let word = |bits: u64| {
            let digit = |n: u32| u64::from(DIGITS[((bits >> (6 * n)) & 63) as usize]) << (8 * n);
            (0..8).fold(0, |word, n| word | digit(n)).to_le_bytes()
        };
        let mut bytes = *b"_INBOX.0123456789abcdef";
        let (_, digits) = bytes.split_at_mut(INBOX_PREFIX.len());
        for (digits, bits) in digits.chunks_exact_mut(8).zip(random) {
            digits.copy_from_slice(&word(bits));
        }
        // All of it is ASCII, so it always is text.
        Self(Text::new(std::str::from_utf8(&bytes).unwrap_or_default()))
    }

    /// Whether this is the subject of an inbox.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        self.0.starts_with(INBOX_PREFIX)
    }

    /// The random part of a subject that [`inbox`](Self::inbox) made; `None` for a subject that
    /// has another beginning or length.
    #[must_use]
    pub fn inbox_token(subject: &str) -> Option<[u8; INBOX_TOKEN]> {
        subject
            .strip_prefix(INBOX_PREFIX)?
            .as_bytes()
            .try_into()
            .ok()
    }

    /// The subject as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// A subject hashes and compares as its text, so maps keyed by it can be asked with a `&str`.
impl std::borrow::Borrow<str> for Subject {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.0)
    }
}

/// Whether this looks like what [`Subject::inbox`] makes, as nearly every `reply_to` does. Sixteen
/// bytes are compared at once where the general check goes from one to the next.
fn is_own_inbox(text: &str) -> bool {
    let ours = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    Subject::inbox_token(text)
        .is_some_and(|token| token.into_iter().fold(true, |all, byte| all & ours(byte)))
}

/// What no name can hold: blanks, control characters and wildcards. A table, because names are
/// checked with every message.
const FORBIDDEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte <= 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[0x7f] = true;
    table[b'*' as usize] = true;
    table[b'>' as usize] = true;
    table
};

/// Checks that `text` is dot-separated tokens of printable, wildcard-free text.
pub(crate) fn check_name(what: &'static str, text: &str, limit: usize) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty { what });
    }
    if text.len() > limit {
        return Err(SubjectError::TooLong { what, limit });
    }
    let mut dots = 0;
    let mut previous = b'.';
    for &byte in text.as_bytes() {
        if byte == b'.' {
            if previous == b'.' {
                return Err(empty_token(what, text));
            }
            dots += 1;
        } else if FORBIDDEN[usize::from(byte)] {
            return Err(character(what, text, byte.into()));
        }
        previous = byte;
    }
    match previous {
        b'.' => Err(empty_token(what, text)),
        _ if dots >= SUBJECT_TOKENS_MAX => Err(SubjectError::TooLong { what, limit }),
        _ => Ok(()),
    }
}

fn empty_token(what: &'static str, text: &str) -> SubjectError {
    SubjectError::EmptyToken {
        what,
        text: text.to_owned(),
    }
}

fn character(what: &'static str, text: &str, found: char) -> SubjectError {
    SubjectError::Character {
        what,
        text: text.escape_debug().collect(),
        found,
    }
}

fn check_tenant(tenant: &str) -> Result<(), SubjectError> {
    check_name("tenant", tenant, NAME_BYTES_MAX)?;
    if tenant.contains('.') || GRAMMAR.contains(&tenant) {
        return Err(SubjectError::Tenant(tenant.to_owned()));
    }
    Ok(())
}

/// Whose subjects begin with this token, if they are not those of a bus.
fn whose(first: &str) -> Option<&'static str> {
    match first {
        "_INBOX" => Some("the inboxes of callers begin with it"),
        "amb" => Some("topics of AMB peers on a NATS server begin with it"),
        _ if first.starts_with('$') => Some("what begins with `$` is a NATS server's own"),
        _ => None,
    }
}

fn check_prefix(prefix: &str) -> Result<(), SubjectError> {
    check_name("prefix", prefix, NAME_BYTES_MAX)?;
    let first = prefix.split('.').next().unwrap_or_default();
    let taken = whose(first).map(|why| (first, why));
    let kind = prefix.split('.').find(|token| GRAMMAR.contains(token));
    let kind = kind.map(|kind| (kind, "events and calls are told apart by it"));
    match taken.or(kind) {
        None => Ok(()),
        Some((token, why)) => Err(SubjectError::Prefix {
            prefix: prefix.to_owned(),
            token: token.to_owned(),
            why,
        }),
    }
}

/// Builds subjects under one prefix and, usually, one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectSpace {
    prefix: Text,
    tenant: Text,
    /// `{prefix}[.{tenant}]`, with which most subjects begin.
    root: Text,
    /// Event types that are subjects by themselves.
    topics: Vec<Pattern>,
}

impl Default for SubjectSpace {
    fn default() -> Self {
        Self::within(Text::new_static(DEFAULT_PREFIX), Text::new_static(""))
    }
}

impl SubjectSpace {
    fn within(prefix: Text, tenant: Text) -> Self {
        let root = match tenant.is_empty() {
            true => prefix.clone(),
            false => Text::from(format!("{prefix}.{tenant}")),
        };
        Self {
            prefix,
            tenant,
            root,
            topics: Vec::new(),
        }
    }

    /// Makes a space; an empty `tenant` is the tenant-less space.
    ///
    /// # Errors
    /// Fails when a name cannot be part of a subject, and when the prefix has a token that means
    /// something else, to the bus or to one of its carriers.
    pub fn new(prefix: &str, tenant: &str) -> Result<Self, SubjectError> {
        check_prefix(prefix)?;
        Self::within(prefix.into(), Text::new_static("")).with_tenant(tenant)
    }

    /// The same prefix with another tenant.
    ///
    /// # Errors
    /// Fails when the tenant cannot be part of a subject.
    pub fn with_tenant(&self, tenant: &str) -> Result<Self, SubjectError> {
        if !tenant.is_empty() {
            check_tenant(tenant)?;
        }
        let mut space = Self::within(self.prefix.clone(), tenant.into());
        space.topics.clone_from(&self.topics);
        Ok(space)
    }

    /// The same space with topics that are shared with peers who know no prefix: an event of such a
    /// type has its type for a subject. They belong to nobody's tenant, so a space that has one
    /// shares nothing.
    ///
    /// # Errors
    /// Fails when a topic matches subjects of the bus itself, which anybody could then reach by the
    /// name of an event.
    pub fn sharing(mut self, topics: &[Pattern]) -> Result<Self, SubjectError> {
        let own = format!("{}.>", self.prefix);
        let inboxes = format!("{INBOX_PREFIX}>");
        for topic in topics.iter().map(Pattern::as_str) {
            if overlap(topic, &own) || overlap(topic, &inboxes) {
                return Err(SubjectError::Topic {
                    topic: topic.to_owned(),
                    prefix: self.prefix.to_string(),
                });
            }
        }
        topics.clone_into(&mut self.topics);
        Ok(self)
    }

    /// The topics that are shared with peers.
    #[must_use]
    pub fn topics(&self) -> &[Pattern] {
        &self.topics
    }

    /// Whether an event type, or all that a pattern of event types matches, is shared with peers
    /// and so has no prefix.
    #[must_use]
    pub fn is_shared(&self, name: &str) -> bool {
        self.tenant.is_empty() && self.topics.iter().any(|topic| topic.covers(name))
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What subjects of this space begin with: the prefix, and the tenant if there is one.
    #[must_use]
    pub fn root(&self) -> &Text {
        &self.root
    }

    /// The tenant, empty in the tenant-less space.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The subject of a published event.
    ///
    /// # Errors
    /// Fails when the event type is empty or cannot be part of a subject.
    pub fn events(&self, event_type: &str) -> Result<Subject, SubjectError> {
        check_name("event type", event_type, NAME_BYTES_MAX)?;
        if self.is_shared(event_type) {
            return Ok(Subject(event_type.into()));
        }
        Ok(join(&self.root, ".events.", event_type))
    }

    /// The pattern of a subscription; `event_type` may use the wildcards `*` and `>`. It hears
    /// topics that are shared if it matches nothing else, and none of them otherwise: a pattern
    /// that did both would be two. [`unheard`](Self::unheard) tells which ones it leaves out.
    ///
    /// # Errors
    /// Fails when the event type is no pattern.
    pub fn events_pattern(&self, event_type: &str) -> Result<Pattern, PatternError> {
        Pattern::check_name(event_type)?;
        if self.is_shared(event_type) {
            return Pattern::parse(event_type);
        }
        Pattern::parse(&join(&self.root, ".events.", event_type).0)
    }

    /// The shared topics with events that a pattern of event types matches, and that are not heard
    /// with it all the same, because it matches others too.
    pub fn unheard<'a>(&'a self, event_type: &'a str) -> impl Iterator<Item = &'a Pattern> {
        let mixed = self.tenant.is_empty() && !self.is_shared(event_type);
        let topics = self.topics.iter();
        topics.filter(move |topic| mixed && overlap(topic.as_str(), event_type))
    }

    /// The subject on which requests to a target travel.
    ///
    /// # Errors
    /// Fails when the target is empty or cannot be part of a subject.
    pub fn invoke(&self, target: &str) -> Result<Subject, SubjectError> {
        check_name("target", target, NAME_BYTES_MAX)?;
        Ok(join(&self.root, ".invoke.", target))
    }

    /// The subject on which callers tell the handlers of a target that they gave up.
    ///
    /// # Errors
    /// Fails when the target is empty or cannot be part of a subject.
    pub fn cancel(&self, target: &str) -> Result<Subject, SubjectError> {
        check_name("target", target, NAME_BYTES_MAX)?;
        Ok(join(&self.root, ".cancel.", target))
    }

    /// The subject of dead letters; it never has a tenant segment.
    ///
    /// # Errors
    /// Fails when the event type is empty or cannot be part of a subject.
    pub fn dlq(&self, event_type: &str) -> Result<Subject, SubjectError> {
        check_name("event type", event_type, NAME_BYTES_MAX)?;
        Ok(join(&self.prefix, ".dlq.", event_type))
    }

    /// The event type inside a subject of this space's events, if it is one.
    #[must_use]
    pub fn event_type_of<'a>(&self, subject: &'a Subject) -> Option<&'a str> {
        let text = subject.as_str();
        self.strip("events", text)
            .or_else(|| self.is_shared(text).then_some(text))
    }

    /// The target inside a subject of this space's requests, if it is one.
    #[must_use]
    pub fn target_of<'a>(&self, subject: &'a Subject) -> Option<&'a str> {
        self.strip("invoke", subject.as_str())
    }

    /// The tenant and the target inside a subject of requests under this prefix, in whatever tenant
    /// it is; the tenant is empty where there is none.
    #[must_use]
    pub fn tenant_and_target_of<'a>(&self, subject: &'a Subject) -> Option<(&'a str, &'a str)> {
        let rest = subject.as_str().strip_prefix(self.prefix.as_str())?;
        let rest = rest.strip_prefix('.')?;
        if let Some(target) = rest.strip_prefix("invoke.") {
            return Some(("", target));
        }
        let (tenant, rest) = rest.split_once('.')?;
        check_tenant(tenant).ok()?;
        Some((tenant, rest.strip_prefix("invoke.")?))
    }

    /// The subject on which the requests of this subject are cancelled, in whatever tenant it is.
    #[must_use]
    pub fn cancel_of(&self, request: &Subject) -> Option<Subject> {
        self.exchange(request, "invoke.", ".cancel.")
    }

    /// The subject of the requests that are cancelled on this one, in whatever tenant it is.
    #[must_use]
    pub fn cancelled_by(&self, cancel: &Subject) -> Option<Subject> {
        self.exchange(cancel, "cancel.", ".invoke.")
    }

    /// Whether a reply may go there: to an inbox, to an event of this prefix, in whatever tenant, or
    /// to a topic that is shared.
    /// A request could otherwise make its handler publish into other agents' requests.
    #[must_use]
    pub fn takes_replies(&self, subject: &Subject) -> bool {
        subject.is_inbox()
            || self.exchange(subject, "events.", ".events.").is_some()
            || self.is_shared(subject.as_str())
    }

    /// The same name in another place of the grammar.
    fn exchange(&self, subject: &Subject, from: &str, to: &str) -> Option<Subject> {
        let text = subject.as_str();
        let rest = text.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let name = match rest.strip_prefix(from) {
            Some(name) => name,
            None => rest.split_once('.')?.1.strip_prefix(from)?,
        };
        // What stands before it: the prefix, and the tenant if there is one.
        let root = text.strip_suffix(name)?.strip_suffix(from)?;
        Some(join(root.strip_suffix('.')?, to, name))
    }

    fn strip<'a>(&self, kind: &str, subject: &'a str) -> Option<&'a str> {
        let mut rest = subject
            .strip_prefix(self.prefix.as_str())?
            .strip_prefix('.')?;
        if !self.tenant.is_empty() {
            rest = rest.strip_prefix(self.tenant.as_str())?.strip_prefix('.')?;
        }
        rest.strip_prefix(kind)?.strip_prefix('.')
    }
}

fn join(root: &str, kind: &str, name: &str) -> Subject {
    let mut text = SmolStrBuilder::new();
    text.push_str(root);
    text.push_str(kind);
    text.push_str(name);
    Subject(text.finish())
}
