//! Keeps the process bus's routing id out of ACP's way.
//!
//! The bus routes lines by a top-level `sessionId`, which ACP does not know. On the way in it is
//! taken off and remembered, by the id of the request and by the ACP session that the line names;
//! on the way out it is put back, on answers, notifications and requests alike. A client without
//! routing ids, an editor for example, sees plain ACP.
//!
//! It works on whole lines, so no read boundary can hide an id from it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::limits::{ROUTED_REQUESTS_MAX, ROUTED_SESSIONS_MAX};
use super::recent::Recent;

/// The routing ids of one connection.
#[derive(Debug)]
pub(super) struct Routing {
    /// Of requests without an answer, by their id as it stood in the line.
    requests: Recent<String, String>,
    /// By ACP session. The routing id is JSON, as it stood in the line.
    sessions: Recent<String, String>,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            requests: Recent::new(ROUTED_REQUESTS_MAX),
            sessions: Recent::new(ROUTED_SESSIONS_MAX),
        }
    }
}

/// What is looked at of a line.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(rename = "sessionId", borrow)]
    routing: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

/// The ACP session that params or a result name.
fn session(part: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "sessionId")]
        session: String,
    }
    let part = part?.get();
    // Most results name none; a failed parse of a long one would be paid on each.
    part.contains("sessionId").then_some(())?;
    let named: Named = serde_json::from_str(part).ok()?;
    Some(named.session)
}

impl Routing {
    /// Returns a line from the bus as ACP knows it.
    pub(super) fn incoming(&mut self, line: String) -> String {
        let Ok(parsed) = serde_json::from_str::<Line<'_>>(&line) else {
            // No message of the protocol; who reads it next says so to its sender.
            return line;
        };
        let Some(routing) = parsed.routing.map(RawValue::get) else {
            return line;
        };
        if let (Some(id), Some(_)) = (parsed.id, &parsed.method) {
            let id = id.get().to_owned();
            self.requests.insert(id, routing.to_owned());
        }
        if let Some(session) = session(parsed.params) {
            self.sessions.insert(session, routing.to_owned());
        }
        match serde_json::from_str::<Map<String, Value>>(&line) {
            Ok(mut members) => {
                members.shift_remove("sessionId");
                Value::Object(members).to_string()
            }
            Err(_) => line,
        }
    }

    /// Returns a line of the agent as the bus routes it.
    pub(super) fn outgoing(&mut self, line: String) -> String {
        match self.routing_of(&line) {
            Some(routing) => with_routing(line, &routing),
            None => line,
        }
    }

    fn routing_of(&mut self, line: &str) -> Option<String> {
        if self.requests.is_empty() && self.sessions.is_empty() {
            return None;
        }
        let parsed: Line<'_> = serde_json::from_str(line).ok()?;
        if parsed.method.is_some() {
            return self.sessions.get(&session(parsed.params)?).cloned();
        }
        let routing = self.requests.remove(parsed.id?.get())?;
        if let Some(session) = session(parsed.result) {
            self.sessions.insert(session, routing.clone());
        }
        Some(routing)
    }
}

/// Adds the routing id as the last member of an object.
fn with_routing(mut line: String, routing: &str) -> String {
    if let Some(end) = line.rfind('}') {
        line.insert_str(end, &format!(",\"sessionId\":{routing}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(said: &[(&str, &str, &str)]) {
        let mut routing = Routing::default();
        for (way, line, expected) in said {
            let passed = match *way {
                "in" => routing.incoming((*line).to_owned()),
                _ => routing.outgoing((*line).to_owned()),
            };
            assert_eq!(passed, *expected, "{way} {line}");
        }
    }

    #[test]
    fn an_answer_gets_the_routing_id_of_its_request_back() {
        check(&[
            (
                "in",
                r#"{"jsonrpc":"2.0","id":7,"sessionId":"r","method":"initialize","params":{}}"#,
                r#"{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}"#,
            ),
            (
                "out",
                r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
                r#"{"jsonrpc":"2.0","id":7,"result":{},"sessionId":"r"}"#,
            ),
            // Once; ids are their client's to use again.
            ("out", r#"{"id":7,"result":{}}"#, r#"{"id":7,"result":{}}"#),
        ]);
    }

    #[test]
    fn a_new_session_is_learnt_from_its_answer() {
        check(&[
            (
                "in",
                r#"{"id":"a","sessionId":"r","method":"session/new","params":{}}"#,
                r#"{"id":"a","method":"session/new","params":{}}"#,
            ),
            (
                "out",
                r#"{"id":"a","result":{"sessionId":"acp-1"}}"#,
                r#"{"id":"a","result":{"sessionId":"acp-1"},"sessionId":"r"}"#,
            ),
            (
                "out",
                r#"{"method":"session/update","params":{"sessionId":"acp-1"}}"#,
                r#"{"method":"session/update","params":{"sessionId":"acp-1"},"sessionId":"r"}"#,
            ),
            (
                "out",
                r#"{"id":1,"method":"session/request_permission","params":{"sessionId":"acp-1"}}"#,
                r#"{"id":1,"method":"session/request_permission","params":{"sessionId":"acp-1"},"sessionId":"r"}"#,
            ),
        ]);
    }

    #[test]
    fn a_known_session_is_learnt_from_what_names_it() {
        check(&[
            (
                "in",
                r#"{"sessionId":"r","method":"session/cancel","params":{"sessionId":"acp-1"}}"#,
                r#"{"method":"session/cancel","params":{"sessionId":"acp-1"}}"#,
            ),
            (
                "out",
                r#"{"method":"session/update","params":{"sessionId":"acp-1"}}"#,
                r#"{"method":"session/update","params":{"sessionId":"acp-1"},"sessionId":"r"}"#,
            ),
            (
                "out",
                r#"{"method":"session/update","params":{"sessionId":"acp-2"}}"#,
                r#"{"method":"session/update","params":{"sessionId":"acp-2"}}"#,
            ),
        ]);
    }

    #[test]
    fn plain_acp_passes_as_it_is() {
        let odd = r#"{ "id" : 1 , "method":"session/prompt","params":{"sessionId":"s"} }"#;
        check(&[("in", odd, odd), ("in", "no json", "no json")]);
    }
}
