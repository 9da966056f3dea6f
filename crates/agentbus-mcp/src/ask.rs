//! What a call may ask its client in between.
//!
//! A handler asks and gets the answer, whatever revision the client speaks. With a session the
//! question is a request to the client. Without one the call ends with [`Fault::Unanswered`], the
//! client answers and calls again, and the handler runs from its beginning with the answers at
//! hand: whatever it does before a question, it may do again.

use std::collections::BTreeMap;

use agentbus_decisions::{self as decisions, Form};
use serde_json::{Map, Value, json};

use crate::Fault;

/// What a client can do for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ability {
    /// Ask the person.
    Elicitation,
    /// Ask its model.
    Sampling,
    /// Tell its working directories.
    Roots,
}

impl Ability {
    /// Its name in the protocol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Elicitation => "elicitation",
            Self::Sampling => "sampling",
            Self::Roots => "roots",
        }
    }
}

/// A question to the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    pub(crate) ability: Ability,
    pub(crate) params: Value,
}

impl Ask {
    /// A form for the person: a JSON Schema of flat fields.
    #[must_use]
    pub fn form(message: &str, schema: &Value) -> Self {
        Self {
            ability: Ability::Elicitation,
            params: json!({ "mode": "form", "message": message, "requestedSchema": schema }),
        }
    }

    /// A text for the client's model.
    #[must_use]
    pub fn model(prompt: &str, tokens_max: u32) -> Self {
        let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
        Self {
            ability: Ability::Sampling,
            params: json!({ "messages": [message], "maxTokens": tokens_max }),
        }
    }

    /// The client's working directories.
    #[must_use]
    pub fn roots() -> Self {
        Self {
            ability: Ability::Roots,
            params: json!({}),
        }
    }

    /// The form, if it is one that a board can show.
    pub(crate) fn form_of(&self) -> Option<(&str, Form)> {
        let form = Form::new(self.params.get("requestedSchema")?.clone()).ok()?;
        Some((self.params["message"].as_str()?, form))
    }

    /// Whether a value has the shape of an answer to this question.
    pub(crate) fn accepts(&self, answer: &Value) -> bool {
        match self.ability {
            Ability::Elicitation => match answer["action"].as_str() {
                Some("accept") => answer["content"].is_object(),
                Some("decline" | "cancel") => true,
                _ => false,
            },
            Ability::Sampling => answer["role"].is_string() && !answer["content"].is_null(),
            Ability::Roots => answer["roots"].is_array(),
        }
    }
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer(pub(crate) Value);

impl Answer {
    /// What a client said of a form, as decisions say it.
    pub(crate) fn as_decision(&self) -> decisions::Answer {
        decisions::Answer {
            option: self.action().to_owned(),
            content: self.fields().cloned(),
        }
    }

    /// The same from there.
    pub(crate) fn from_decision(answer: Option<decisions::Answer>) -> Self {
        Self(match answer {
            None => json!({ "action": "cancel" }),
            Some(answer) => match answer.content {
                None if answer.option == "accept" => json!({ "action": "accept", "content": {} }),
                None => json!({ "action": answer.option }),
                Some(content) => json!({ "action": answer.option, "content": content }),
            },
        })
    }

    /// The fields that the person filled in; none if the person would not.
    #[must_use]
    pub fn fields(&self) -> Option<&Map<String, Value>> {
        if self.0["action"] != "accept" {
            return None;
        }
        self.0["content"].as_object()
    }

    /// What the person did with the form: `accept`, `decline` or `cancel`.
    #[must_use]
    pub fn action(&self) -> &str {
        self.0["action"].as_str().unwrap_or_default()
    }

    /// The text of the client's model.
    #[must_use]
    pub fn text(&self) -> &str {
        let content = &self.0["content"];
        let first = content.get(0).unwrap_or(content);
        first["text"].as_str().unwrap_or_default()
    }

    /// The URIs of the client's working directories.
    #[must_use]
    pub fn roots(&self) -> Vec<&str> {
        let roots = self.0["roots"].as_array();
        let uris = roots.into_iter().flatten();
        uris.filter_map(|root| root["uri"].as_str()).collect()
    }
}

/// The answers that a call came with, and the questions that are still open.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) answers: BTreeMap<String, Value>,
    pub(crate) open: BTreeMap<String, Ask>,
}

impl Exchange {
    /// Returns the answer, or notes the question. An answer of the wrong shape is none.
    pub(crate) fn take(&mut self, key: &str, ask: &Ask) -> Result<Answer, Fault> {
        match self.answers.get(key) {
            Some(answer) if ask.accepts(answer) => Ok(Answer(answer.clone())),
            _ => {
                self.answers.remove(key);
                self.open.insert(key.to_owned(), ask.clone());
                Err(Fault::Unanswered)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ask: &Ask, answer: &Value, accepted: bool) {
        assert_eq!(ask.accepts(answer), accepted, "{answer}");
    }

    #[test]
    fn an_answer_has_the_shape_of_its_question() {
        let form = Ask::form("name?", &json!({ "type": "object", "properties": {} }));
        check(
            &form,
            &json!({ "action": "accept", "content": { "name": "Ada" } }),
            true,
        );
        check(&form, &json!({ "action": "decline" }), true);
        check(&form, &json!({ "action": "accept" }), false);
        check(&form, &json!(12345), false);
        let model = Ask::model("why?", 10);
        check(
            &model,
            &json!({ "role": "assistant", "content": { "type": "text" } }),
            true,
        );
        check(&model, &json!({ "text": "because" }), false);
        check(&Ask::roots(), &json!({ "roots": [] }), true);
        check(&Ask::roots(), &json!({}), false);
    }

    #[test]
    fn a_question_without_a_fitting_answer_stays_open() {
        let mut exchange = Exchange::default();
        exchange.answers.insert("who".to_owned(), json!(7));
        assert_eq!(exchange.take("who", &Ask::roots()), Err(Fault::Unanswered));
        assert!(exchange.open.contains_key("who"));
        assert!(exchange.answers.is_empty());
    }
}
