//! What a message on a line says of itself, and what comes back over HTTP.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The id in an answer to what has none.
pub(super) const NO_ID: &str = "null";

/// The key under which a client of the newest revision says its version with every request.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// The first revision without sessions.
const MODERN: &str = "2026-07-28";

/// What JSON-RPC says of a line that is no JSON.
pub(super) const NO_JSON: i32 = -32700;

/// What it says of JSON that is no request.
pub(super) const NO_REQUEST: i32 = -32600;

/// What it says of a request that failed for a reason of this side.
const FAILED: i32 = -32603;

/// A line from the client.
pub(super) struct Message {
    pub(super) line: String,
    value: Value,
}

impl Message {
    /// Reads a line; none if it is no JSON.
    pub(super) fn read(line: String) -> Option<Self> {
        let value = serde_json::from_str(&line).ok()?;
        Some(Self { line, value })
    }

    pub(super) fn method(&self) -> &str {
        self.value["method"].as_str().unwrap_or_default()
    }

    /// The id, if the client waits for an answer under one.
    pub(super) fn request_id(&self) -> Option<&Value> {
        let is_request = self.has("method");
        let id = self.value.get("id");
        id.filter(|id| is_request && (id.is_string() || id.is_number()))
    }

    /// What the client is told if the bus does not take the message; none if it waits for nothing.
    pub(super) fn lost(&self, text: &str) -> Option<String> {
        match self.request_id() {
            Some(_) => Some(error(&self.id_as_written(), FAILED, text)),
            None if self.wants_nothing() => None,
            // A batch, or an id that is none: who sent it waits, whatever it meant.
            None => Some(error(NO_ID, NO_REQUEST, text)),
        }
    }

    /// What the client is told of an id that the bus could not give back: it knows whole numbers of
    /// 64 bits, and would answer under another id, or none.
    pub(super) fn misnumbered(&self) -> Option<String> {
        let id = self.request_id()?;
        let text = "an id is a whole number of 64 bits or a text; ask again under one of those";
        (id.is_number() && !id.is_i64()).then(|| error(&self.id_as_written(), NO_REQUEST, text))
    }

    /// The id with each of its digits, of which a number that was read may have lost some.
    fn id_as_written(&self) -> String {
        #[derive(Deserialize)]
        struct Named {
            id: Box<RawValue>,
        }
        match serde_json::from_str::<Named>(&self.line) {
            Ok(named) => named.id.get().to_owned(),
            // It stands there twice; the last one counts.
            Err(_) => self.value["id"].to_string(),
        }
    }

    /// Whether it is a notification, or an answer to what the bus asked.
    fn wants_nothing(&self) -> bool {
        if self.has("method") {
            return !self.has("id");
        }
        self.has("result") || self.has("error")
    }

    fn has(&self, member: &str) -> bool {
        self.value.get(member).is_some()
    }

    /// What the request is about, where the newest revision repeats it in a header.
    pub(super) fn subject(&self) -> Option<&str> {
        let params = &self.value["params"];
        match self.method() {
            "tools/call" | "prompts/get" => params["name"].as_str(),
            "resources/read" => params["uri"].as_str(),
            _ => None,
        }
    }

    /// The version that the message says it is of.
    pub(super) fn version(&self) -> Option<&str> {
        self.value["params"]["_meta"][VERSION].as_str()
    }

    pub(super) fn is_modern(&self) -> bool {
        self.version().is_some_and(|version| version >= MODERN)
    }

    /// The request that the client gives up with this message.
    pub(super) fn cancels(&self) -> Option<&Value> {
        let cancels = self.method() == "notifications/cancelled";
        self.value["params"].get("requestId").filter(|_| cancels)
    }
}

/// An error, of which the bus knows nothing, to an id that is given as JSON.
pub(super) fn error(id: &str, code: i32, text: &str) -> String {
    let error = json!({ "code": code, "message": text });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// Writes a value so that it can stand in a header: as it is, or encoded where it could not.
pub(super) fn header_value(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|byte| (0x21..0x7f).contains(&byte) || byte == b' ');
    if plain && text.trim() == text && !text.starts_with("=?") {
        return text.to_owned();
    }
    format!("=?base64?{}?=", base64(text.as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Takes server-sent events apart into their data.
#[derive(Debug, Default)]
pub(super) struct Events {
    rest: Vec<u8>,
    data: Vec<String>,
}

impl Events {
    /// Takes in some bytes; the messages that are complete with them.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(data) = line.strip_prefix("data:") {
                self.data
                    .push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            } else if line.is_empty() {
                let message = std::mem::take(&mut self.data).join("\n");
                if !message.trim().is_empty() {
                    messages.push(message);
                }
            }
        }
        messages
    }

    /// Bytes that are held until their event is complete.
    pub(super) fn held(&self) -> usize {
        self.rest.len() + self.data.iter().map(String::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_complete_at_the_empty_line() {
        let mut events = Events::default();
        assert!(events.feed(b": hb\n\nid: 1\ndata: {\"a\"").is_empty());
        assert_eq!(events.feed(b":1}\r\n\r\ndata: \n\n"), [r#"{"a":1}"#]);
        assert_eq!(events.held(), 0);
    }

    fn check(text: &str, expect: &str) {
        assert_eq!(header_value(text), expect);
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_encoded() {
        check("msg_post", "msg_post");
        check("chat://threads/ä", "=?base64?Y2hhdDovL3RocmVhZHMvw6Q=?=");
        check(" x", "=?base64?IHg=?=");
        check("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?=");
    }

    #[test]
    fn a_message_says_what_it_is() {
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let message = Message::read(line.to_owned()).unwrap();
        assert!(message.is_modern());
        assert_eq!(message.subject(), Some("x"));
        assert_eq!(message.request_id(), Some(&json!(1)));
        let answer = Message::read(r#"{"id":1,"result":{}}"#.to_owned()).unwrap();
        assert_eq!(answer.request_id(), None);
        assert!(Message::read("{".to_owned()).is_none());
    }

    /// What a client is told of a line that the bus does not take: the code and the id.
    fn check_lost(line: &str, expect: Option<(i32, Value)>) {
        let message = Message::read(line.to_owned()).unwrap();
        let told = message.lost("no").map(|told| {
            let told: Value = serde_json::from_str(&told).unwrap();
            (told["error"]["code"].clone(), told["id"].clone())
        });
        let expect = expect.map(|(code, id)| (json!(code), id));
        assert_eq!(told, expect, "{line}");
    }

    #[test]
    fn whoever_waits_is_told() {
        check_lost(r#"{"id":1,"method":"ping"}"#, Some((FAILED, json!(1))));
        check_lost(r#"{"id":"a","method":"ping"}"#, Some((FAILED, json!("a"))));
        let unreadable = [
            r#"[{"id":1,"method":"ping"}]"#,
            "[]",
            "7",
            "{}",
            r#"{"id":null,"method":"ping"}"#,
            r#"{"id":{},"method":"ping"}"#,
            r#"{"id":1}"#,
        ];
        for line in unreadable {
            check_lost(line, Some((NO_REQUEST, Value::Null)));
        }
        check_lost(r#"{"method":"notifications/cancelled"}"#, None);
        check_lost(r#"{"id":1,"result":{}}"#, None);
        check_lost(r#"{"id":1,"error":{"code":1,"message":"no"}}"#, None);
    }

    /// Whether a request under the id goes to the bus; otherwise it is answered under that id.
    fn check_id(id: &str, goes: bool) {
        let line = format!(r#"{{"method":"ping","id": {id} }}"#);
        let message = Message::read(line).unwrap();
        let under = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":"#);
        let told = message.misnumbered();
        assert_eq!(told.is_none(), goes, "{id}");
        for told in told.into_iter().chain(message.lost("no")) {
            assert!(told.starts_with(&under), "{told}");
        }
    }

    #[test]
    fn an_id_is_given_back_with_all_its_digits() {
        for id in ["0", "-7", "9223372036854775807", r#""a\u0041""#] {
            check_id(id, true);
        }
        let others = [
            "9223372036854775808",
            "123456789012345678901234567890",
            "1.50",
            "1e3",
            "-0",
        ];
        for id in others {
            check_id(id, false);
        }
    }
}
