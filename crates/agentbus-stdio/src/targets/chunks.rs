//! The text of an answer that comes in chunks.
//!
//! SDKs add the text of every `agent_message_chunk` to every request that happens to be pending.
//! Here a chunk belongs to the one call that heard it.

use serde::Deserialize;
use serde_json::{Map, Value};

/// What the chunks of one call have said so far.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    text: String,
}

#[derive(Deserialize)]
struct Notification {
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    update: Update,
}

#[derive(Deserialize)]
struct Update {
    #[serde(rename = "sessionUpdate")]
    kind: String,
    content: Content,
}

#[derive(Deserialize)]
struct Content {
    text: String,
}

impl Chunks {
    /// Adds the text of a notification, if it is a chunk.
    pub(super) fn hear(&mut self, line: &[u8]) {
        if let Ok(Notification { params }) = serde_json::from_slice(line)
            && params.update.kind == "agent_message_chunk"
        {
            self.text.push_str(&params.update.content.text);
        }
    }

    /// Puts the text into a result that is an object, as its `text`.
    pub(super) fn complete(&self, result: &str) -> String {
        if self.text.is_empty() {
            return result.to_owned();
        }
        match serde_json::from_str::<Map<String, Value>>(result) {
            Ok(mut object) => {
                object.insert("text".to_owned(), self.text.as_str().into());
                Value::Object(object).to_string()
            }
            Err(_) => result.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str) -> String {
        format!(
            r#"{{"method":"session/update","params":{{"update":{{"sessionUpdate":"agent_message_chunk","content":{{"text":{text}}}}}}}}}"#
        )
    }

    #[track_caller]
    fn check(lines: &[String], result: &str, want: &str) {
        let mut chunks = Chunks::default();
        lines.iter().for_each(|line| chunks.hear(line.as_bytes()));
        assert_eq!(chunks.complete(result), want);
    }

    #[test]
    fn chunks_become_the_text_of_an_object() {
        let hello = [chunk("\"Hel\""), chunk("\"lo\"")];
        check(&hello, "{}", r#"{"text":"Hello"}"#);
        check(&hello, r#"{"text":"x"}"#, r#"{"text":"Hello"}"#);
        check(&hello, "5", "5");
        check(&[], r#"{"b":1, "a":2}"#, r#"{"b":1, "a":2}"#);
    }

    #[test]
    fn what_is_no_chunk_adds_nothing() {
        let others = [
            chunk("\"\""),
            chunk("7"),
            chunk("\"x\"").replace("agent_message_chunk", "agent_thought_chunk"),
            r#"{"method":"session/update"}"#.to_owned(),
        ];
        check(&others, "{}", "{}");
    }
}
