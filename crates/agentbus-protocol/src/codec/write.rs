//! Writing.

use super::plain::plain_prefix;
use crate::{Envelope, EventId};

/// What stands between the value of one member and that of the next.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

impl Envelope {
    /// Writes the envelope as compact JSON in UTF-8.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let payload_bytes = self
            .payload
            .as_ref()
            .map_or(0, |payload| payload.as_bytes().len());
        // The fields around the payload take 250 to 600 bytes in practice.
        let mut out = Vec::with_capacity(512 + payload_bytes);
        self.encode_into(&mut out);
        out
    }

    /// Appends the JSON form to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        self.encode_around(out, b"", b"");
    }

    /// Appends the JSON form to `out`, with these bytes right before and after its payload: for
    /// dialects whose payload is always within something else. They make it valid JSON.
    pub fn encode_around(&self, out: &mut Vec<u8>, before: &[u8], after: &[u8]) {
        out.extend_from_slice(b"{\"spec_version\":");
        write_text(out, &self.spec_version);
        json(out, key!("schema_version"), &self.schema_version);
        id(out, key!("event_id"), &self.event_id);
        out.extend_from_slice(key!("event_type").as_bytes());
        write_text(out, self.event_type.as_str());
        text(out, key!("frame_type"), &self.frame_type);
        out.extend_from_slice(key!("occurred_at").as_bytes());
        self.occurred_at.with_str(|time| write_text(out, time));
        self.encode_context(out);
        text(out, key!("reply_to"), &self.reply_to);
        text(out, key!("from"), &self.from);
        text(out, key!("to"), &self.to);
        if self.seq != 0 {
            json(out, key!("seq"), &self.seq);
        }
        if self.is_final {
            json(out, key!("is_final"), &true);
        }
        if let Some(payload) = &self.payload {
            out.extend_from_slice(key!("payload").as_bytes());
            out.extend_from_slice(before);
            out.extend_from_slice(payload.as_bytes());
            out.extend_from_slice(after);
        }
        if !self.metadata.is_empty() {
            json(out, key!("metadata"), &self.metadata);
        }
        out.push(b'}');
    }

    fn encode_context(&self, out: &mut Vec<u8>) {
        let context = &*self.context;
        text(out, key!("trace_id"), &context.trace_id);
        text(out, key!("span_id"), &context.span_id);
        text(out, key!("traceparent"), &context.traceparent);
        text(out, key!("session_id"), &context.session_id);
        text(out, key!("conversation_id"), &context.conversation_id);
        if !self.correlation_id.is_absent() {
            id(out, key!("correlation_id"), &self.correlation_id);
        }
        text(out, key!("channel"), &context.channel);
        text(out, key!("tenant_id"), &context.tenant_id);
        text(out, key!("user_id"), &context.user_id);
    }
}

/// Appends a text, unless it is absent.
fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    if !value.is_empty() {
        out.extend_from_slice(key.as_bytes());
        write_text(out, value);
    }
}

fn id(out: &mut Vec<u8>, key: &str, value: &EventId) {
    out.extend_from_slice(key.as_bytes());
    value.with_str(|id| write_text(out, id));
}

fn json(out: &mut Vec<u8>, key: &str, value: &(impl serde::Serialize + ?Sized)) {
    out.extend_from_slice(key.as_bytes());
    // Writing a number, or JSON that was read before, into memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

/// Appends a text as a JSON string (RFC 8259, section 7).
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    if plain_prefix(text.as_bytes()) < text.len() {
        // Writing text into memory cannot fail.
        let _ = serde_json::to_writer(out, text);
        return;
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_of_ascii_is_written_as_the_json_library_does_wherever_it_stands() {
        for byte in 0..128_u8 {
            for before in 0..17 {
                let text = format!("{}{}é", "x".repeat(before), char::from(byte));
                let mut out = Vec::new();
                write_text(&mut out, &text);
                assert_eq!(out, serde_json::to_vec(&text).unwrap(), "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn texts_are_written_as_the_json_library_writes_them(text in ".*") {
            let mut out = Vec::new();
            write_text(&mut out, &text);
            prop_assert_eq!(out, serde_json::to_vec(&text).unwrap());
        }
    }
}
