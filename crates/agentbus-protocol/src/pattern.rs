//! Patterns that subscriptions use.

use std::fmt;

use crate::limits::{NAME_BYTES_MAX, SUBJECT_BYTES_MAX, SUBJECT_TOKENS_MAX};
use crate::subject::{SubjectError, check_name};
use crate::{Subject, Text};

/// A subject with wildcards: `*` stands for exactly one token, `>` for one or more at the end.
///
/// ```
/// use agentbus_protocol::{Pattern, Subject};
///
/// let orders = Pattern::parse("shop.order.*").unwrap();
/// assert!(orders.matches("shop.order.paid"));
/// assert!(!orders.matches("shop.order.paid.twice"));
/// assert!(Pattern::parse("shop.>").unwrap().matches("shop.order.paid.twice"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    text: Text,
    literal: bool,
}

/// Tells why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A token that is wrong in a subject too.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// `>` before the last token.
    #[error("`{0}`: `>` stands for the rest, so it can only be the last token")]
    RestNotLast(String),
    /// A wildcard mixed with other characters.
    #[error("`{0}`: a wildcard is a token of its own, as in `order.*` or `order.>`")]
    PartialWildcard(String),
}

impl Pattern {
    /// Reads a pattern over full subjects.
    ///
    /// # Errors
    /// Fails when a token is empty, mixes a wildcard with text, or when `>` is not last.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        check(text, SUBJECT_BYTES_MAX)?;
        Ok(Self {
            text: text.into(),
            literal: !text.contains(['*', '>']),
        })
    }

    /// Checks a name that may hold wildcards before it is spliced into a pattern.
    pub(crate) fn check_name(name: &str) -> Result<(), PatternError> {
        check(name, NAME_BYTES_MAX)
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern has no wildcard and so matches one subject only.
    #[must_use]
    pub const fn is_literal(&self) -> bool {
        self.literal
    }

    /// Whether the subject matches.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        if self.literal {
            return self.text == subject;
        }
        let mut tokens = subject.split('.');
        for wanted in self.text.split('.') {
            match (wanted, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether it matches every subject that the other one matches.
    #[must_use]
    pub fn covers(&self, other: &str) -> bool {
        let (mut ours, mut theirs) = (self.text.split('.'), other.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) => return true,
                (Some("*"), Some(token)) if token != ">" => {}
                (Some(wanted), Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
    }
}

/// Whether there is a subject that both patterns match.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    let (mut left, mut right) = (one.split('.'), other.split('.'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some(">"), _) | (_, Some(">")) => return true,
            (Some("*"), _) | (_, Some("*")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn check(text: &str, limit: usize) -> Result<(), PatternError> {
    let what = "pattern";
    if text.is_empty() {
        return Err(SubjectError::Empty { what }.into());
    }
    if text.len() > limit || text.split('.').count() > SUBJECT_TOKENS_MAX {
        return Err(SubjectError::TooLong { what, limit }.into());
    }
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        match token {
            "*" => {}
            ">" if tokens.peek().is_none() => {}
            ">" => return Err(PatternError::RestNotLast(text.to_owned())),
            "" => {
                return Err(SubjectError::EmptyToken {
                    what,
                    text: text.to_owned(),
                }
                .into());
            }
            token if token.contains(['*', '>']) => {
                return Err(PatternError::PartialWildcard(text.to_owned()));
            }
            token => check_name(what, token, limit)?,
        }
    }
    Ok(())
}

impl From<&Subject> for Pattern {
    fn from(subject: &Subject) -> Self {
        Self {
            text: subject.text().clone(),
            literal: true,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_when_one_subject_fits_both() {
        for (one, other, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.*", true),
            ("a.*", "*.b", true),
            ("a.*.c", "a.b.*", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.b", "b.*", false),
            ("a.*", "a.b.c", false),
            (">", "x", true),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} and {other}");
            assert_eq!(overlap(other, one), expected, "{other} and {one}");
        }
    }
}
