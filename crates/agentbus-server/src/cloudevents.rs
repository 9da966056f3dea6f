//! CloudEvents 1.0.2 at the edge: read from HTTP structured, batched and binary, and written
//! structured and binary (CloudEvents HTTP protocol binding, sections 3.1 to 3.3; JSON event
//! format, section 3).
//!
//! On the bus an event is an envelope like any other. Its `type` is the event type, its `data` the
//! payload, and each attribute stands in the metadata under `cloudevents.NAME`, so that what came
//! in goes out unchanged. An envelope that never was a CloudEvent becomes one with the attributes
//! that its own fields give.

mod answer;

use std::collections::BTreeMap;

use agentbus::{Envelope, Metadata, Payload, Text};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::Failure;
use crate::limits::{CLOUD_EVENT_ATTRIBUTES, CLOUD_EVENT_BATCH};

pub(crate) use answer::{binary_answer, structured_answer};

/// The version that is read and written.
const VERSION: &str = "1.0";

/// What the metadata keys of attributes begin with.
const PREFIX: &str = "cloudevents.";

/// Says that the payload is the base64 form of bytes. No attribute can be called so.
const BINARY: &str = "cloudevents.data_base64";

/// A CloudEvent on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) event_type: String,
    pub(crate) payload: Option<Payload>,
    pub(crate) metadata: Metadata,
    /// The extension `traceparent`, which is how CloudEvents carry a trace.
    pub(crate) traceparent: Option<Text>,
    /// What tells a repetition: `source` and `id` name an event for all time.
    pub(crate) key: String,
}

/// The attributes of an event by name, and its data.
struct Parts {
    attributes: BTreeMap<String, Value>,
    payload: Option<Payload>,
    is_binary: bool,
}

#[derive(Deserialize)]
struct Structured<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
    #[serde(flatten)]
    attributes: BTreeMap<String, Value>,
}

/// Reads the events of a request.
///
/// # Errors
/// Says what is wrong with which event; nothing of a batch is taken then.
pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Vec<Incoming>, Failure> {
    let content_type = content_type(headers)?;
    let kind = kind_of(content_type);
    if kind.eq_ignore_ascii_case("application/cloudevents-batch+json") {
        return batch(body);
    }
    if kind.eq_ignore_ascii_case("application/cloudevents+json") {
        return Ok(vec![structured(body)?.into_incoming()?]);
    }
    if headers.contains_key("ce-specversion") {
        return Ok(vec![binary(headers, content_type, body)?.into_incoming()?]);
    }
    Err(Failure::invalid(
        "the body is no CloudEvent: send application/cloudevents+json, application/cloudevents-batch+json, or ce-* headers; \
         other JSON goes to /v1/events/{type}",
    ))
}

fn content_type(headers: &HeaderMap) -> Result<&str, Failure> {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.map_or(Ok(""), |value| value.to_str());
    text.map_err(|_| Failure::invalid("the header content-type is not ASCII"))
}

/// A content type without its parameters.
fn kind_of(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether data of this type is JSON, as data of no type is.
fn is_json(kind: &str) -> bool {
    kind.is_empty() || kind.ends_with("/json") || kind.ends_with("+json")
}

fn batch(body: &Bytes) -> Result<Vec<Incoming>, Failure> {
    let events: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| Failure::invalid(format!("the batch is no JSON array: {error}")))?;
    if events.len() > CLOUD_EVENT_BATCH {
        return Err(Failure::invalid(format!(
            "the batch has {} events; send at most {CLOUD_EVENT_BATCH} at a time",
            events.len()
        )));
    }
    let read = |event: &RawValue| structured(event.get().as_bytes())?.into_incoming();
    let numbered = events.into_iter().enumerate();
    let all = numbered.map(|(at, event)| {
        read(event).map_err(|failure| failure.about(format!("event {at} of the batch")))
    });
    all.collect()
}

fn structured(text: &[u8]) -> Result<Parts, Failure> {
    let event: Structured<'_> = serde_json::from_slice(text)
        .map_err(|error| Failure::invalid(format!("the CloudEvent cannot be read: {error}")))?;
    let unreadable = |_| Failure::invalid("`data` is not valid JSON");
    let (payload, is_binary) = match (event.data, event.data_base64) {
        (Some(_), Some(_)) => {
            return Err(Failure::invalid("give `data` or `data_base64`, not both"));
        }
        (Some(data), None) => {
            let data = Bytes::copy_from_slice(data.get().as_bytes());
            (Payload::from_bytes(&data).map_err(unreadable)?, false)
        }
        (None, Some(text)) => {
            let decoded = STANDARD.decode(&text);
            decoded.map_err(|_| Failure::invalid("`data_base64` is not base64"))?;
            (Some(Payload::text(&text)), true)
        }
        (None, None) => (None, false),
    };
    let present = |(name, value): (String, Value)| (!value.is_null()).then_some((name, value));
    Ok(Parts {
        attributes: event.attributes.into_iter().filter_map(present).collect(),
        payload,
        is_binary,
    })
}

fn binary(headers: &HeaderMap, content_type: &str, body: &Bytes) -> Result<Parts, Failure> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        let value = std::str::from_utf8(value.as_bytes())
            .ok()
            .and_then(percent_decoded);
        let value = value.ok_or_else(|| {
            Failure::invalid(format!("the header ce-{name} is not percent-encoded UTF-8"))
        })?;
        attributes.insert(name.to_owned(), Value::String(value));
    }
    if !content_type.is_empty() {
        attributes.insert("datacontenttype".to_owned(), content_type.into());
    }
    let kind = kind_of(content_type);
    let text = std::str::from_utf8(body);
    let (payload, is_binary) = match text {
        _ if body.is_empty() => (None, false),
        _ if is_json(kind) => {
            let wrong = |_| Failure::invalid("the body is not valid JSON, as its type says");
            (Payload::from_bytes(body).map_err(wrong)?, false)
        }
        Ok(text) if kind.starts_with("text/") => (Some(Payload::text(text)), false),
        _ => (Some(Payload::text(&STANDARD.encode(body))), true),
    };
    Ok(Parts {
        attributes,
        payload,
        is_binary,
    })
}

impl Parts {
    fn into_incoming(mut self) -> Result<Incoming, Failure> {
        let version = self.attributes.remove("specversion");
        if version.as_ref().and_then(Value::as_str) != Some(VERSION) {
            return Err(Failure::invalid(format!(
                "the attribute `specversion` must be \"{VERSION}\""
            )));
        }
        let (id, source) = (self.required("id")?, self.required("source")?);
        let event_type = self.required("type")?;
        if self.attributes.len() > CLOUD_EVENT_ATTRIBUTES {
            return Err(Failure::invalid(format!(
                "a CloudEvent has at most {CLOUD_EVENT_ATTRIBUTES} attributes here"
            )));
        }
        let traceparent = self.attributes.get("traceparent").and_then(Value::as_str);
        let traceparent = traceparent.map(Text::from);
        let mut metadata = Metadata::default();
        for (name, value) in &self.attributes {
            check_attribute(name, value)?;
            metadata
                .insert(format!("{PREFIX}{name}"), value)
                .map_err(|error| Failure::invalid(error.to_string()))?;
        }
        if self.is_binary {
            metadata.insert_text(BINARY, "true");
        }
        Ok(Incoming {
            event_type,
            payload: self.payload,
            metadata,
            traceparent,
            key: format!("{source} {id}"),
        })
    }

    fn required(&self, name: &str) -> Result<String, Failure> {
        let text = self.attributes.get(name).and_then(Value::as_str);
        let text = text.filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| {
            Failure::invalid(format!("the attribute `{name}` must be text and not empty"))
        })
    }
}

/// Names are lower-case letters and digits, values texts, integers or booleans (CloudEvents 1.0.2,
/// sections 3.1.1 and 3.2). `data` is what the attributes are about.
fn check_attribute(name: &str, value: &Value) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.is_empty() || name == "data" || !name.bytes().all(plain) {
        return Err(Failure::invalid(format!(
            "`{name}` is no attribute name: lower-case letters and digits are, but `data` is not"
        )));
    }
    let simple = value.is_string() || value.is_boolean() || value.is_i64();
    if !simple {
        return Err(Failure::invalid(format!(
            "the attribute `{name}` must be text, an integer or a boolean"
        )));
    }
    Ok(())
}

/// Writes an envelope as a structured CloudEvent on one line.
pub(crate) fn write(envelope: &Envelope) -> Vec<u8> {
    let (event, is_binary) = attributes(envelope);
    let mut out = serde_json::to_vec(&event).unwrap_or_default();
    if let Some(payload) = &envelope.payload {
        // The payload goes out as it is; it is not read.
        out.pop();
        out.extend_from_slice(match is_binary {
            true => b",\"data_base64\":",
            false => b",\"data\":",
        });
        out.extend_from_slice(payload.as_str().as_bytes());
        out.push(b'}');
    }
    out
}

/// The attributes that an envelope has as a CloudEvent, and whether its payload is the base64 form
/// of bytes. Metadata that can be no attribute is left out.
fn attributes(envelope: &Envelope) -> (serde_json::Map<String, Value>, bool) {
    let mut event = serde_json::Map::new();
    event.insert("id".into(), envelope.event_id.with_str(|id| json!(id)));
    event.insert("source".into(), source_of(&envelope.from).into());
    event.insert("type".into(), envelope.event_type.as_str().into());
    event.insert("time".into(), envelope.occurred_at.to_string().into());
    let context = &envelope.context;
    let texts = [
        ("traceparent", &context.traceparent),
        ("sessionid", &context.session_id),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        event.insert(name.into(), text.as_str().into());
    }
    let mut is_binary = false;
    for (key, value) in envelope.metadata.iter() {
        match key.strip_prefix(PREFIX) {
            _ if key == BINARY => is_binary = true,
            Some(name) => {
                let value = serde_json::from_str(value).unwrap_or(Value::Null);
                if check_attribute(name, &value).is_ok() {
                    event.insert(name.to_owned(), value);
                }
            }
            None => {}
        }
    }
    if envelope.payload.is_some() {
        let json = || "application/json".into();
        event.entry("datacontenttype").or_insert_with(json);
    }
    // Last, because the metadata has no say in what is written here.
    event.insert("specversion".into(), VERSION.into());
    (event, is_binary)
}

/// A URI reference that names an agent of this bus.
fn source_of(agent: &str) -> String {
    let mut source = "/agents/".to_owned();
    for byte in agent.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                source.push(char::from(byte));
            }
            _ => source.push_str(&format!("%{byte:02X}")),
        }
    }
    source
}

/// Undoes the encoding of header values (HTTP protocol binding, section 3.1.3.2); `None` if an
/// escape is broken or the text is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
