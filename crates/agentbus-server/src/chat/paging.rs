//! Pages of lists that are plain arrays: where the next page begins stands beside them, in a header.

use axum::Json;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::fields::Fields;
use super::refusal::Refusal;

/// Where the next page begins, if there is one.
const NEXT: &str = "x-next-cursor";

/// A page that was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What the page before ended with.
    after: Option<String>,
    /// At most so many; all without it, or with 0.
    limit: usize,
}

impl Wanted {
    pub(super) fn of(fields: &mut Fields) -> Result<Self, Refusal> {
        let (cursor, limit) = (fields.text("cursor"), fields.count("limit"));
        fields.check()?;
        let after = cursor.map(|cursor| open(&cursor).ok_or_else(no_cursor));
        Ok(Self {
            after: after.transpose()?,
            limit: limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX),
        })
    }

    /// What the page before ended with.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Cuts the page out of what follows the page before, and says what it ends with if there is
    /// more.
    pub(super) fn cut<T>(&self, mut rest: Vec<T>, name: impl Fn(&T) -> String) -> (Vec<T>, Next) {
        let more = rest.len() > self.limit;
        rest.truncate(self.limit);
        let last = rest.last().filter(|_| more).map(|last| seal(&name(last)));
        (rest, Next(last))
    }
}

/// The cursor of the next page.
#[derive(Debug)]
pub(super) struct Next(Option<String>);

impl Next {
    pub(super) fn beside(self, list: Value) -> Response {
        let mut response = Json(list).into_response();
        let cursor = self.0.and_then(|next| HeaderValue::try_from(next).ok());
        if let Some(cursor) = cursor {
            response.headers_mut().insert(NEXT, cursor);
        }
        response
    }
}

pub(super) fn no_cursor() -> Refusal {
    Refusal::bad(
        "Invalid 'cursor': it must be the cursor that came with the page before; leave it out to begin anew",
    )
}

/// Names may hold anything, and a header may not.
fn seal(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn open(cursor: &str) -> Option<String> {
    if cursor.is_empty() || !cursor.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digits = cursor.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_as_it_was_sealed() {
        for name in ["a", "code-review", "Über ~ 部署\n"] {
            let sealed = seal(name);
            assert!(HeaderValue::try_from(sealed.as_str()).is_ok());
            assert_eq!(open(&sealed).as_deref(), Some(name));
        }
        for wrong in ["", "xx", "部署", "ff"] {
            assert_eq!(open(wrong), None, "{wrong}");
        }
    }
}
