//! The payload of a call as a prompt.

use agentbus::{Error, Payload};
use serde::Deserialize;
use serde_json::Value;

use crate::sdk::prompt::{Meta, Prompt};

/// What a call may say, besides a JSON string.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    prompt: Value,
    /// Passed on to the agent.
    #[serde(rename = "_meta")]
    meta: Option<Meta>,
}

/// Reads a text, content blocks, or an object with either as its `prompt`.
pub(super) fn read(payload: Option<&Payload>) -> Result<Prompt, Error> {
    let value: Value = payload.ok_or_else(|| wrong("there is none"))?.decode()?;
    let (said, meta) = match value {
        Value::Object(_) => {
            let said: Said =
                serde_json::from_value(value).map_err(|error| wrong(&error.to_string()))?;
            (said.prompt, said.meta)
        }
        value => (value, None),
    };
    let prompt = match said {
        Value::String(text) if text.is_empty() => Err(wrong("the text is empty")),
        Value::String(text) => Ok(Prompt::text(&text)),
        blocks @ Value::Array(_) => Prompt::blocks(blocks).map_err(|error| wrong(&error)),
        _ => Err(wrong("it is of another type")),
    };
    Ok(prompt?.meta(meta))
}

fn wrong(what: &str) -> Error {
    Error::invalid_request(format!(
        "a prompt is a JSON string, an array of ACP content blocks, or {{\"prompt\":…}} with \
         either: {what}"
    ))
}

#[cfg(test)]
mod tests {
    use agentbus::ErrorCode;
    use serde_json::json;

    use super::*;

    fn check(payload: &Value, good: bool) {
        let read = read(Payload::from_value(payload).unwrap().as_ref());
        match read {
            Ok(_) => assert!(good, "{payload}"),
            Err(error) => {
                assert!(!good, "{payload}: {error}");
                assert_eq!(error.code(), ErrorCode::InvalidRequest);
            }
        }
    }

    #[test]
    fn prompts_are_texts_or_blocks() {
        let text = json!([{ "type": "text", "text": "hello" }]);
        for good in [
            json!("hello"),
            json!({ "prompt": "hello" }),
            text.clone(),
            json!({ "prompt": text }),
        ] {
            check(&good, true);
        }
        let misspelt = json!({ "prompt": "hello", "sesion": "s" });
        let bad_block = json!([{ "type": "text" }]);
        for bad in [
            json!(null),
            json!(""),
            json!([]),
            json!(7),
            json!({}),
            misspelt,
            bad_block,
        ] {
            check(&bad, false);
        }
    }
}
