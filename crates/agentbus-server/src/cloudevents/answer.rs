//! A CloudEvent as the answer of a request: headers and a body.
//!
//! In binary mode the attributes are headers and the body is the data as it is (CloudEvents HTTP
//! protocol binding, section 3.1). What headers cannot say goes out structured all the same: a reader
//! tells the modes apart by the content type, so that nothing is cut and nothing is misread.

use agentbus::Envelope;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::{attributes, is_json, kind_of, write};
use crate::limits::CLOUD_EVENT_HEADER_BYTES;

/// What the content types of structured and batched events begin with.
const STRUCTURED: &str = "application/cloudevents";

/// The event in JSON.
pub(crate) fn structured_answer(envelope: &Envelope) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_static("application/cloudevents+json");
    headers.insert(header::CONTENT_TYPE, content_type);
    (headers, write(envelope).into())
}

/// The event with its attributes as headers, or in JSON where headers cannot say it.
pub(crate) fn binary_answer(envelope: &Envelope) -> (HeaderMap, Bytes) {
    as_headers(envelope).unwrap_or_else(|| structured_answer(envelope))
}

/// `None` where the attributes take too much room, the type of the data is no header or that of a
/// structured event, or the payload is not what its type says.
fn as_headers(envelope: &Envelope) -> Option<(HeaderMap, Bytes)> {
    let (mut attributes, is_base64) = attributes(envelope);
    let content_type = attributes.remove("datacontenttype");
    let content_type = match &content_type {
        Some(given) => given.as_str()?,
        None => "",
    };
    let body = data(envelope, content_type, is_base64)?;
    let mut headers = HeaderMap::new();
    let mut bytes = content_type.len();
    for (name, value) in &attributes {
        let (name, value) = (format!("ce-{name}"), percent_encoded(&text_of(value)));
        bytes += name.len() + value.len();
        if bytes > CLOUD_EVENT_HEADER_BYTES {
            return None;
        }
        let name = HeaderName::try_from(name).ok()?;
        headers.insert(name, HeaderValue::try_from(value).ok()?);
    }
    if !content_type.is_empty() {
        headers.insert(header::CONTENT_TYPE, header_of(content_type)?);
    }
    Some((headers, body))
}

/// The type of the data as a header, unless a reader would take the event for a structured one.
fn header_of(content_type: &str) -> Option<HeaderValue> {
    let begins = content_type.get(..STRUCTURED.len());
    let is_structured = begins.is_some_and(|begins| begins.eq_ignore_ascii_case(STRUCTURED));
    if is_structured || !content_type.is_ascii() {
        return None;
    }
    HeaderValue::from_str(content_type).ok()
}

/// The data as bytes. Bytes and texts that are no JSON stand in a JSON string on the bus.
fn data(envelope: &Envelope, content_type: &str, is_base64: bool) -> Option<Bytes> {
    let Some(payload) = &envelope.payload else {
        return Some(Bytes::new());
    };
    if !is_base64 && is_json(kind_of(content_type)) {
        return Some(payload.to_bytes());
    }
    let text: String = payload.decode().ok()?;
    match is_base64 {
        true => STANDARD.decode(text).ok().map(Bytes::from),
        false => Some(text.into()),
    }
}

/// An attribute in its text form (CloudEvents 1.0.2, section 3.1).
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Encodes a header value (HTTP protocol binding, section 3.1.3.2): space, `"`, `%` and what is not
/// printable ASCII.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
