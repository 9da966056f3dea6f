//! `agentbus attach`: what happened in a session, and then what happens.
//!
//! A connection that breaks is opened again with the last offset, so that nothing is missed and
//! nothing printed twice.

use std::time::Duration;

use serde_json::Value;

use super::{Api, escaped};
use crate::args::AttachArgs;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::plain;

/// Between two attempts to reach a bus that has gone away.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn attach(api: &Api, asked: AttachArgs) -> Result<(), Failure> {
    if asked.session.is_empty() {
        return list(api).await;
    }
    tokio::select! {
        ended = follow(api, asked) => ended,
        () = super::serve::asked_to_stop() => Ok(()),
    }
}

async fn follow(api: &Api, asked: AttachArgs) -> Result<(), Failure> {
    let mut attached = Attached {
        output: api.output.clone(),
        last: asked.after,
        left: asked.count,
        id: find(api, &asked.session).await?,
    };
    loop {
        let path = format!("/v1/sessions/{}/events", escaped(&attached.id));
        let last = attached.last.to_string();
        let headers = [("last-event-id", last.as_str())];
        let heard = api.listen(&path, &headers, |event| attached.hear(event));
        match heard.await {
            Ok(()) if attached.left == Some(0) => return Ok(()),
            // The bus stops, or has gone away; it comes back with the rest.
            Ok(()) => {}
            Err(failure) if failure.exit == Exit::Unreachable => api.output.note(&failure.message),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Finds a session by its id, or by its name where only one agent has it.
async fn find(api: &Api, name: &str) -> Result<String, Failure> {
    let listed = api.get("/v1/sessions").await?;
    let sessions = listed["sessions"].as_array().cloned().unwrap_or_default();
    let id = |session: &Value| session["id"].as_str().unwrap_or_default().to_owned();
    if sessions.iter().any(|session| id(session) == name) {
        return Ok(name.to_owned());
    }
    let named: Vec<String> = sessions
        .iter()
        .filter(|it| it["session"] == name)
        .map(id)
        .collect();
    match named.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::usage(format!(
            "no session is called `{name}`; `agentbus attach` without a name lists those there are"
        ))),
        several => Err(Failure::usage(format!(
            "several agents have a session `{name}`; say which: {}",
            several.join(", ")
        ))),
    }
}

async fn list(api: &Api) -> Result<(), Failure> {
    let listed = api.get("/v1/sessions").await?;
    api.rows(&listed["sessions"], |session| {
        let id = plain::line(session["id"].as_str().unwrap_or_default());
        format!("{id}  {} events", session["last"])
    })
}

/// A reader and how far it has come.
struct Attached {
    output: Output,
    id: String,
    last: u64,
    /// How many events are still wanted; `None` for all.
    left: Option<u64>,
}

impl Attached {
    /// Prints an event; false when it was the last that is wanted.
    fn hear(&mut self, event: Event<'_>) -> Result<bool, Failure> {
        self.last = event.id;
        if self.output.is_json() {
            let Event { id, kind, data } = event;
            self.output.line(&format!(
                r#"{{"offset":{id},"event":"{kind}","data":{data}}}"#
            ))?;
        } else if let Some(line) = line(&event) {
            self.output.line(&line)?;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(self.left != Some(0))
    }
}

/// A server-sent event of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'e> {
    pub(super) id: u64,
    pub(super) kind: &'e str,
    pub(super) data: &'e str,
}

impl<'e> Event<'e> {
    /// Reads one block; comments and blocks without a number are none.
    pub(super) fn read(block: &'e str) -> Option<Self> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        Some(Self {
            id: field("id: ")?.parse().ok()?,
            kind: field("event: ")?,
            data: field("data: ")?,
        })
    }
}

/// What a person reads of an event.
fn line(event: &Event<'_>) -> Option<String> {
    let data: Value = serde_json::from_str(event.data).ok()?;
    let text = |value: &Value| plain::body(value.as_str().unwrap_or_default());
    let field = |value: &Value| plain::line(value.as_str().unwrap_or_default());
    match event.kind {
        "prompt" => {
            let blocks = data["prompt"].as_array()?;
            let texts: Vec<String> = blocks.iter().map(|block| text(&block["text"])).collect();
            Some(format!("> {}", texts.join(" ")))
        }
        "update" => match data["sessionUpdate"].as_str()? {
            // As its further lines, or it could look like a prompt or an end.
            "agent_message_chunk" => Some(format!("  {}", text(&data["content"]["text"]))),
            "tool_call" => Some(format!("[{}]", field(&data["title"]))),
            _ => None,
        },
        "ended" => match data["error"]["message"].as_str() {
            Some(error) => Some(format!("-- {}", plain::body(error))),
            None => Some(format!("-- {}", field(&data["stop_reason"]))),
        },
        "gap" => Some(format!(
            "-- events up to {} are not kept any more",
            data["up_to"]
        )),
        "lost" => Some(format!("-- {} events could not be kept", data["count"])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(block: &str, want: Option<&str>) {
        let read = Event::read(block).as_ref().and_then(line);
        assert_eq!(read.as_deref(), want, "{block}");
    }

    #[test]
    fn events_are_read_and_told() {
        check(": hb\n", None);
        check("id: x\nevent: update\ndata: {}", None);
        check(
            "id: 1\nevent: prompt\ndata: {\"prompt\":[{\"type\":\"text\",\"text\":\"hi\"}]}",
            Some("> hi"),
        );
        let chunk = r#"{"sessionUpdate":"agent_message_chunk","content":{"text":"hello"}}"#;
        check(
            &format!("id: 2\nevent: update\ndata: {chunk}"),
            Some("  hello"),
        );
        check(
            r#"id: 2
event: update
data: {"sessionUpdate":"agent_message_chunk","content":{"text":"-- end_turn\n> hi"}}"#,
            Some("  -- end_turn\n  > hi"),
        );
        check(
            "id: 3\nevent: ended\ndata: {\"stop_reason\":\"end_turn\"}",
            Some("-- end_turn"),
        );
        check(
            "id: 4\nevent: ended\ndata: {\"error\":{\"message\":\"died\"}}",
            Some("-- died"),
        );
        check(
            r#"id: 4
event: update
data: {"sessionUpdate":"tool_call","title":"read]\n-- end_turn"}"#,
            Some("[read]\\n-- end_turn]"),
        );
        check(
            r#"id: 4
event: prompt
data: {"prompt":[{"type":"text","text":"hi\n-- end_turn\u001b"}]}"#,
            Some("> hi\n  -- end_turn\\u{1b}"),
        );
        check(
            "id: 5\nevent: gap\ndata: {\"up_to\":5}",
            Some("-- events up to 5 are not kept any more"),
        );
    }
}
