//! Why an answer did not come, for who waits for it.

use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde_json::{Value, json};

use crate::sdk::serving::{self, Error};
use crate::worker::limits::{REFUSAL_BYTES_MAX, REFUSAL_WAIT_MAX, SILENCE_MAX};
use crate::worker::web;

/// What the protocol calls a login that is missing.
const AUTH_REQUIRED: i32 = -32000;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the endpoint refused the key ({status}): {said}; set OPENAI_API_KEY")]
    Key { status: u16, said: String },
    #[error("the endpoint is asked too often: {said}; try again{}", in_seconds(*after))]
    RateLimit {
        said: String,
        after: Option<Duration>,
    },
    #[error("the endpoint failed ({status}): {said}; try again later")]
    Server { status: u16, said: String },
    #[error("the endpoint refused the request ({status}): {said}")]
    Request { status: u16, said: String },
    #[error("the endpoint cannot be reached: {0}; is OPENAI_BASE_URL right?")]
    Unreachable(String),
    #[error("the endpoint hung up in the middle of its answer; send the prompt again")]
    HungUp,
    #[error("the endpoint said nothing for {} s; send the prompt again", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the endpoint broke its answer off: {0}")]
    Refused(String),
    #[error("the answer is longer than anybody could want; ask for less")]
    TooLong,
    /// The client or the history; the error says which.
    #[error("{0}")]
    Here(Error),
}

impl Failure {
    /// Reads what an endpoint says instead of an answer.
    pub(super) async fn of_response(response: reqwest::Response) -> Self {
        let status = response.status().as_u16();
        let header = response.headers().get("retry-after");
        let after = header.and_then(|value| pause(value.to_str().ok()?.trim()));
        let said = said(response).await;
        match status {
            401 | 403 => Self::Key { status, said },
            429 => Self::RateLimit { said, after },
            500.. => Self::Server { status, said },
            _ => Self::Request { status, said },
        }
    }

    /// Returns how long the endpoint wants to be left alone, if it says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimit { after, .. } => *after,
            _ => None,
        }
    }

    /// A word for programs.
    fn kind(&self) -> &'static str {
        match self {
            Self::Key { .. } => "authentication",
            Self::RateLimit { .. } => "rate_limit",
            Self::Server { .. } => "server",
            Self::Request { .. } => "request",
            Self::Unreachable(_) => "unreachable",
            Self::HungUp => "hung_up",
            Self::Silent => "silent",
            Self::Refused(_) => "refused",
            Self::TooLong => "too_long",
            Self::Here(_) => "here",
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Unreachable(web::reason(&error))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let data = match &failure {
            Failure::Here(error) => return error.clone(),
            Failure::RateLimit { after, .. } => {
                let seconds = after.map(|after| after.as_secs_f64());
                json!({ "kind": failure.kind(), "retryAfterSeconds": seconds })
            }
            _ => json!({ "kind": failure.kind() }),
        };
        let sentence = failure.to_string();
        let error = match failure {
            Failure::Key { .. } => Error::new(AUTH_REQUIRED, sentence),
            _ => serving::failed(sentence),
        };
        error.data(data)
    }
}

/// Reads a pause, which is a number of seconds or a date.
fn pause(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = DateTimeParser::new().parse_timestamp(text).ok()?;
    let pause = at.duration_since(Timestamp::now());
    // A date that has passed asks for no pause.
    Some(Duration::try_from(pause).unwrap_or_default())
}

fn in_seconds(after: Option<Duration>) -> String {
    match after {
        Some(after) => format!(" in {} s", after.as_secs_f64()),
        None => " later".to_owned(),
    }
}

/// Reads the words of a refusal, which are JSON at some endpoints and prose at others.
async fn said(response: reqwest::Response) -> String {
    let mut body = Vec::new();
    let read = async {
        let mut pieces = response.bytes_stream();
        while let Some(Ok(piece)) = pieces.next().await
            && body.len() < REFUSAL_BYTES_MAX
        {
            body.extend_from_slice(&piece);
        }
    };
    // Whatever has come by then is shown.
    let _ = tokio::time::timeout(REFUSAL_WAIT_MAX, read).await;
    body.truncate(REFUSAL_BYTES_MAX);
    let body = &body[..];
    let parsed = serde_json::from_slice::<Value>(body).unwrap_or_default();
    match parsed["error"]["message"].as_str() {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_number_of_seconds_or_a_date() {
        for (text, seconds) in [
            ("0", Some(0.0)),
            ("1.5", Some(1.5)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0.0)),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(pause(text).map(|it| it.as_secs_f64()), seconds, "{text}");
        }
        let later = pause("Thu, 31 Dec 2099 23:59:59 GMT").unwrap();
        assert!(later > Duration::from_secs(1_000_000), "{later:?}");
    }
}
