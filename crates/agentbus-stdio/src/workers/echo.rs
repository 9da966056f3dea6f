//! Answers every request with what it was sent.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Answer, Message, for_each_line, write_line};

#[derive(Debug, Serialize)]
struct Echo<'a> {
    echo: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    timestamp: String,
}

#[derive(Debug, Serialize)]
struct Notification<'a> {
    jsonrpc: &'static str,
    method: &'static str,
    params: Original<'a>,
    #[serde(rename = "sessionId")]
    session: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct Original<'a> {
    original: &'a RawValue,
    timestamp: String,
}

/// Echoes until `input` ends.
///
/// A request is answered with its params, its method and the time; a notification with a session
/// is followed by one of our own. What is no JSON is reported to `log`.
///
/// # Errors
///
/// The first failure to read or to write.
pub fn echo(input: impl Read, output: &mut impl Write, log: &mut impl Write) -> io::Result<()> {
    for_each_line(input, output, |line, output| {
        match serde_json::from_slice::<Message<'_>>(line) {
            Ok(message) => respond(&message, output),
            Err(error) => writeln!(log, "a line is no JSON-RPC: {error}"),
        }
    })
}

fn respond(message: &Message<'_>, output: &mut impl Write) -> io::Result<()> {
    let nothing = empty_object();
    let params = message.params.unwrap_or(&nothing);
    let timestamp = now();
    match (message.id, message.session()) {
        (Some(id), session) => {
            let result = Echo {
                echo: params,
                method: message.method.as_deref(),
                timestamp,
            };
            let answer = Answer {
                jsonrpc: "2.0",
                id,
                result,
                session,
            };
            write_line(output, &answer)
        }
        (None, Some(session)) => {
            let notification = Notification {
                jsonrpc: "2.0",
                method: "echo.notification",
                params: Original {
                    original: params,
                    timestamp,
                },
                session,
            };
            write_line(output, &notification)
        }
        (None, None) => Ok(()),
    }
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Returns the time as other implementations write it, to the millisecond.
fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}
