//! What the bus itself says.

use serde_json::{Value, json};

use super::{ClientId, Ports, Router};
use crate::code::Code;

impl Router {
    /// Answers a request with an error. `id` is the JSON that the client wrote.
    pub(super) fn refuse(
        &mut self,
        client: ClientId,
        id: &[u8],
        code: Code,
        details: Option<(&str, Value)>,
        ports: &mut impl Ports,
    ) {
        let mut data = json!({"code": code.name(), "retryable": code.is_retryable()});
        if let Some((name, value)) = details {
            data[name] = value;
        }
        let error = json!({"code": code.number(), "message": code.message(), "data": data});
        let rest = format!(r#","error":{error}}}"#);
        self.counts.refused += 1;
        self.say(client, id, &rest, ports);
    }

    /// Answers a request with a result of the bus's own.
    pub(super) fn answer(
        &mut self,
        client: ClientId,
        id: &[u8],
        result: &Value,
        ports: &mut impl Ports,
    ) {
        let rest = format!(r#","result":{result}}}"#);
        self.say(client, id, &rest, ports);
    }

    fn say(&mut self, client: ClientId, id: &[u8], rest: &str, ports: &mut impl Ports) {
        self.counts.messages_out += 1;
        let head = br#"{"jsonrpc":"2.0","id":"#;
        ports.to_client(client, [head, id, rest.as_bytes()]);
    }

    /// The two errors that have no id, because the request could not be read.
    pub(crate) fn unreadable(client: ClientId, code: i32, message: &str, ports: &mut impl Ports) {
        let error = json!({"code": code, "message": message});
        let line = format!(r#"{{"jsonrpc":"2.0","id":null,"error":{error}}}"#);
        ports.to_client(client, [line.as_bytes(), b"", b""]);
        ports.close(client);
    }
}
