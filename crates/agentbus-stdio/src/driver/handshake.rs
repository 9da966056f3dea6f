//! The lines that a worker gets before it gets work.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::worker_side::HANDSHAKE_ID;
use crate::config::Handshake;

/// Returns the request of a handshake as a line.
pub(super) fn request(handshake: &Handshake) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Request<'a> {
        jsonrpc: &'static str,
        id: &'static str,
        method: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        params: Option<&'a RawValue>,
    }
    let params: Option<&RawValue> = handshake
        .params
        .as_deref()
        .and_then(|params| serde_json::from_str(params).ok());
    let request = Request {
        jsonrpc: "2.0",
        id: HANDSHAKE_ID,
        method: &handshake.method,
        params,
    };
    let mut line = serde_json::to_vec(&request).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Returns the notification that follows a good answer, as a line.
pub(super) fn notification(method: &str) -> Vec<u8> {
    let members: Map<String, Value> = Map::from_iter([
        ("jsonrpc".to_owned(), json!("2.0")),
        ("method".to_owned(), json!(method)),
    ]);
    let mut line = Value::Object(members).to_string().into_bytes();
    line.push(b'\n');
    line
}
