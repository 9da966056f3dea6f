//! What stands beside a message in its record: to whom it was dealt, and what its publisher had
//! read of the table.

use std::sync::Arc;

use rdkafka::message::{BorrowedHeaders, Header, Headers, OwnedHeaders};

use crate::table::Dealt;

/// The header with the number of the first record of the table that the publisher had not read.
const SEEN: &str = "agentbus-seen";

/// Written before the members' names in the keys of the other headers.
const TO: &str = "agentbus-to ";

pub(crate) fn headers(dealt: &[Dealt], seen: i64) -> OwnedHeaders {
    let all = OwnedHeaders::new_with_capacity(dealt.len() + 1).insert(Header {
        key: SEEN,
        value: Some(&seen.to_string()),
    });
    dealt.iter().fold(all, |all, (member, group)| {
        all.insert(Header {
            key: &format!("{TO}{member}"),
            value: Some(group.as_bytes()),
        })
    })
}

/// What a record's headers say. A record of somebody who knows no headers was dealt to nobody.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deal {
    pub(crate) to: Vec<Dealt>,
    pub(crate) seen: i64,
}

impl Deal {
    pub(crate) fn of(headers: Option<&BorrowedHeaders>) -> Self {
        let mut deal = Self::default();
        for header in headers.iter().flat_map(|headers| headers.iter()) {
            let value = header
                .value
                .and_then(|value| std::str::from_utf8(value).ok());
            let Some(value) = value else { continue };
            if header.key == SEEN {
                deal.seen = value.parse().unwrap_or_default();
            } else if let Some(member) = header.key.strip_prefix(TO) {
                deal.to.push((Arc::from(member), Arc::from(value)));
            }
        }
        deal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        let to: Vec<Dealt> = vec![
            ("1-a/2".into(), "the group".into()),
            ("b/3".into(), "h".into()),
        ];
        let written = headers(&to, 41);
        assert_eq!(Deal::of(Some(written.as_borrowed())), Deal { to, seen: 41 });
        assert_eq!(Deal::of(None), Deal::default());
    }
}
