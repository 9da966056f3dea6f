//! `agentbus dead-letters`.

use agentbus::limits::DEAD_LETTERS_MAX;
use agentbus_server::limits::DEAD_LETTERS_PAGE_MAX;
use serde_json::{Value, json};

use super::{Api, escaped};
use crate::args::{DeadLetterVerb, ListLetters, RedriveLetters};
use crate::failure::{Exit, Failure};
use crate::plain;

/// How much of a payload a line shows, in characters; `--json` has all of it.
const PAYLOAD_SHOWN: usize = 200;

pub(crate) async fn dead_letters(api: &Api, verb: Option<DeadLetterVerb>) -> Result<(), Failure> {
    match verb {
        None => list(api, ListLetters::default()).await,
        Some(DeadLetterVerb::List(which)) => list(api, which).await,
        Some(DeadLetterVerb::Redrive(RedriveLetters {
            id,
            all,
            event_type,
        })) => match id {
            Some(id) if !all => redrive(api, &id).await,
            _ => redrive_all(api, event_type.as_deref()).await,
        },
        Some(DeadLetterVerb::Drop { id }) => {
            let path = format!("/v1/dead-letters/{}", escaped(&id));
            api.delete(&path).await?;
            api.say(&json!({ "dropped": id }), &format!("dropped {id}"))
        }
    }
}

async fn list(api: &Api, which: ListLetters) -> Result<(), Failure> {
    let number = |n: usize| n.to_string();
    let asked = [
        ("event_type", which.event_type),
        ("reason", which.reason),
        ("offset", which.offset.map(number)),
        ("limit", which.limit.map(number)),
    ];
    let given = asked.iter().filter_map(|(name, value)| {
        let value = value.as_deref()?;
        Some(format!("{name}={}", escaped(value)))
    });
    let query = given.collect::<Vec<_>>().join("&");
    let listed = api.get(&format!("/v1/dead-letters?{query}")).await?;
    api.rows(&listed["dead_letters"], letter)
}

/// What died of what, and when; below it the payload. Most of it is of whoever published it.
fn letter(letter: &Value) -> String {
    let text = |name: &str| letter[name].as_str().unwrap_or_default();
    let attempts = match letter["attempts"].as_u64() {
        Some(1) => "1 attempt".to_owned(),
        n => format!("{} attempts", n.unwrap_or(0)),
    };
    let (id, event_type, reason) = (text("id"), text("event_type"), text("reason"));
    let (kept_at, error) = (text("kept_at"), text("error"));
    let head = format!("{id}  {event_type}  {reason} after {attempts}, {kept_at}: {error}");
    let payload = match &letter["payload"] {
        Value::Null => String::new(),
        payload => format!("\n  {}", plain::line(&shortened(&payload.to_string()))),
    };
    format!("{}{payload}", plain::line(&head))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(PAYLOAD_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

async fn redrive(api: &Api, id: &str) -> Result<(), Failure> {
    let path = format!("/v1/dead-letters/{}/redrive", escaped(id));
    let sent = api.post(&path, &json!({})).await.map_err(not_taken)?;
    api.say(&sent, &format!("sent {id} again"))
}

/// What the bus has no other word for is a letter that failed again.
fn not_taken(failure: Failure) -> Failure {
    match failure.exit {
        Exit::Unexpected => Failure::new(Exit::NotTaken, failure.message),
        _ => failure,
    }
}

/// Sends letters as many at a time as the bus takes, until there are no more or one has failed.
async fn redrive_all(api: &Api, event_type: Option<&str>) -> Result<(), Failure> {
    let only = event_type.map(|event_type| format!("&event_type={}", escaped(event_type)));
    let only = only.unwrap_or_default();
    let path = format!("/v1/dead-letters/redrive?limit={DEAD_LETTERS_PAGE_MAX}{only}");
    let mut sent = 0;
    // Events that a durable name cannot handle either come back while this goes on.
    for _ in 0..DEAD_LETTERS_MAX.div_ceil(DEAD_LETTERS_PAGE_MAX) {
        let outcome = api.post(&path, &json!({})).await?;
        let list = |name: &str| outcome[name].as_array().cloned().unwrap_or_default();
        let (redriven, failed) = (list("redriven"), list("failed"));
        sent += redriven.len();
        if api.output.is_json() {
            api.output.line(&outcome.to_string())?;
        }
        if !failed.is_empty() {
            return Err(all_failed(api, sent, &failed));
        }
        if redriven.len() < DEAD_LETTERS_PAGE_MAX {
            break;
        }
    }
    match api.output.is_json() {
        true => Ok(()),
        false => api.output.line(&format!("sent {sent} again")),
    }
}

/// Says which letters have failed again, and why.
fn all_failed(api: &Api, sent: usize, failed: &[Value]) -> Failure {
    for letter in failed {
        let text = |name: &str| letter[name].as_str().unwrap_or_default();
        let line = format!("{}: {}", text("id"), text("error"));
        api.output.note(&plain::line(&line));
    }
    let failed = failed.len();
    let message = format!("sent {sent} again, and {failed} failed; they are kept");
    Failure::new(Exit::NotTaken, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_forges_no_line() {
        let shown = letter(&json!({
            "id": "1", "event_type": "order.paid", "reason": "handler_error", "attempts": 1,
            "kept_at": "2026-11-21T08:00:00Z", "error": "out\n2  of paper", "payload": { "n": "\u{202e}" },
        }));
        let head =
            "1  order.paid  handler_error after 1 attempt, 2026-11-21T08:00:00Z: out\\n2  of paper";
        assert_eq!(shown, format!("{head}\n  {{\"n\":\"\\u{{202e}}\"}}"));
        let long = letter(&json!({ "payload": "x".repeat(1000) }));
        assert!(long.ends_with("x…") && long.len() < 300, "{long}");
    }
}
