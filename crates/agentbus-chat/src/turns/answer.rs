//! What an agent answers, put together from its frames.

use agentbus::{Envelope, ErrorPayload};
use serde_json::Value;

use crate::limits;

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With an answer.
    Said { text: String, stop_reason: String },
    /// Without one.
    Silent { stop_reason: String },
    /// With an error.
    Failed(String),
}

/// An answer that grows.
#[derive(Debug, Default)]
pub(super) struct Answer(String);

impl Answer {
    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What came after an offset.
    pub(super) fn since(&self, offset: usize) -> &str {
        self.0.get(offset..).unwrap_or_default()
    }

    /// Takes a frame in; how the turn ended, if this was the last.
    pub(super) fn take(&mut self, frame: &Envelope) -> Option<Ended> {
        if let Some(error) = ErrorPayload::of(frame) {
            return Some(Ended::Failed(error.message));
        }
        let payload = frame.payload.as_ref();
        let payload: Value = payload
            .and_then(|payload| payload.decode().ok())
            .unwrap_or_default();
        if frame.is_final {
            return Some(self.finish(&payload));
        }
        let piece = text_of(&payload).unwrap_or_default();
        let room = limits::TURN_ANSWER_BYTES_MAX.saturating_sub(self.0.len());
        self.0.push_str(&piece[..piece.floor_char_boundary(room)]);
        None
    }

    /// The end of a stream that has no last frame.
    pub(super) fn end(self) -> Ended {
        said(self.0, "end_turn")
    }

    fn finish(&mut self, last: &Value) -> Ended {
        let reason = last["stop_reason"]
            .as_str()
            .unwrap_or("end_turn")
            .to_owned();
        let gathered = std::mem::take(&mut self.0);
        // What was streamed is the answer; a handler with one reply says all of it here.
        match (gathered.trim().is_empty(), last) {
            (false, _) => said(gathered, &reason),
            (true, Value::String(text)) => said(text.clone(), &reason),
            (true, last) => match text_of(last) {
                Some(text) => said(text.to_owned(), &reason),
                None if last.is_null() => said(String::new(), &reason),
                None => said(last.to_string(), &reason),
            },
        }
    }
}

fn said(text: String, stop_reason: &str) -> Ended {
    let stop_reason = stop_reason.to_owned();
    match text.trim().is_empty() {
        true => Ended::Silent { stop_reason },
        false => Ended::Said { text, stop_reason },
    }
}

/// The text of a piece: an ACP message chunk, `{"text"}`, or a text. Thoughts, tool calls and plans
/// are no part of the answer.
fn text_of(payload: &Value) -> Option<&str> {
    match payload["sessionUpdate"].as_str() {
        Some("agent_message_chunk") => payload["content"]["text"].as_str(),
        Some(_) => Some(""),
        None => payload.as_str().or_else(|| payload["text"].as_str()),
    }
}
