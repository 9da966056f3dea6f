//! Reads the fields of a body or a query, and says about each what is wrong with it, in the form
//! of the framework that AgentChatBus is built on: a list of type, place, text and input.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::refusal::Refusal;

/// Fields that are being read; what is wrong with them is collected until [`Fields::check`].
#[derive(Debug)]
pub(super) struct Fields {
    place: &'static str,
    values: Map<String, Value>,
    problems: Vec<Value>,
}

impl Fields {
    pub(super) const fn of(place: &'static str, values: Map<String, Value>) -> Self {
        Self {
            place,
            values,
            problems: Vec::new(),
        }
    }

    /// All of them, as they came.
    pub(super) fn into_values(self) -> Map<String, Value> {
        self.values
    }

    /// Refuses the request if anything was wrong with it.
    pub(super) fn check(&mut self) -> Result<(), Refusal> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let problems = Value::Array(std::mem::take(&mut self.problems));
        Err(Refusal::detail(StatusCode::UNPROCESSABLE_ENTITY, problems))
    }

    fn problem(&mut self, kind: &str, name: &str, text: &str, input: &Value) {
        let (place, problem) = (self.place, &mut self.problems);
        problem.push(json!({ "type": kind, "loc": [place, name], "msg": text, "input": input }));
    }

    /// A value that is there and not null.
    fn value(&self, name: &str) -> Option<Value> {
        self.values
            .get(name)
            .filter(|value| !value.is_null())
            .cloned()
    }

    /// The names of all that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) => Some(text),
            other => {
                self.problem(
                    "string_type",
                    name,
                    "Input should be a valid string",
                    &other,
                );
                None
            }
        }
    }

    /// A text that must be there; empty until [`Fields::check`] has refused.
    pub(super) fn required(&mut self, name: &str) -> String {
        if self.has(name) && !self.values[name].is_null() {
            return self.text(name).unwrap_or_default();
        }
        if self.has(name) {
            let text = "Input should be a valid string";
            self.problem("string_type", name, text, &Value::Null);
            return String::new();
        }
        self.missing(name);
        String::new()
    }

    pub(super) fn missing(&mut self, name: &str) {
        let input = match self.place {
            "body" => Value::Object(self.values.clone()),
            _ => Value::Null,
        };
        self.problem("missing", name, "Field required", &input);
    }

    /// One of some words.
    pub(super) fn word(&mut self, name: &str, words: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        if words.contains(&text.as_str()) {
            return Some(text);
        }
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let expected = match quoted.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => quoted.join(""),
        };
        let text_of = format!("Input should be {expected}");
        self.problem("literal_error", name, &text_of, &Value::String(text));
        if let Some(problem) = self.problems.last_mut() {
            problem["ctx"] = json!({ "expected": expected });
        }
        None
    }

    pub(super) fn int(&mut self, name: &str) -> Option<i64> {
        let value = self.value(name)?;
        let found = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        if found.is_none() {
            let (kind, more) = if value.is_string() {
                ("int_parsing", ", unable to parse string as an integer")
            } else {
                ("int_type", "")
            };
            let text = format!("Input should be a valid integer{more}");
            self.problem(kind, name, &text, &value);
        }
        found
    }

    /// A number that is not negative.
    pub(super) fn count(&mut self, name: &str) -> Option<usize> {
        let number = self.int(name)?;
        Some(usize::try_from(number).unwrap_or(0))
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.value(name)?;
        let word = match &value {
            Value::Bool(flag) => return Some(*flag),
            Value::String(text) => text.to_lowercase(),
            other => other.to_string(),
        };
        match word.as_str() {
            "1" | "true" | "yes" | "on" | "t" | "y" => Some(true),
            "0" | "false" | "no" | "off" | "f" | "n" => Some(false),
            _ => {
                let text = "Input should be a valid boolean, unable to interpret input";
                self.problem("bool_parsing", name, text, &value);
                None
            }
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Option<Value> {
        let value = self.value(name)?;
        if value.is_object() {
            return Some(value);
        }
        self.problem(
            "dict_type",
            name,
            "Input should be a valid dictionary",
            &value,
        );
        None
    }

    pub(super) fn list(&mut self, name: &str) -> Option<Vec<Value>> {
        match self.value(name)? {
            Value::Array(list) => Some(list),
            other => {
                self.problem("list_type", name, "Input should be a valid list", &other);
                None
            }
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let list = self.list(name)?;
        let texts: Option<Vec<String>> = list
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect();
        if texts.is_none() {
            let text = "Input should be a list of strings";
            self.problem("string_type", name, text, &Value::Array(list));
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: Value, read: impl FnOnce(&mut Fields), expect: &Value) {
        let Value::Object(values) = body else {
            panic!("a body is an object");
        };
        let mut fields = Fields::of("body", values);
        read(&mut fields);
        let problems = fields
            .check()
            .err()
            .map(|refusal| refusal.into_body()["detail"].clone());
        assert_eq!(&problems.unwrap_or_default(), expect);
    }

    #[test]
    fn every_problem_is_named() {
        let body = json!({ "n": "abc", "role": "boss" });
        check(
            body.clone(),
            |fields| {
                fields.required("topic");
                fields.int("n");
                fields.word("role", &["user", "assistant", "system"]);
            },
            &json!([
                { "type": "missing", "loc": ["body", "topic"], "msg": "Field required", "input": body },
                { "type": "int_parsing", "loc": ["body", "n"], "input": "abc",
                  "msg": "Input should be a valid integer, unable to parse string as an integer" },
                { "type": "literal_error", "loc": ["body", "role"], "input": "boss",
                  "msg": "Input should be 'user', 'assistant' or 'system'",
                  "ctx": { "expected": "'user', 'assistant' or 'system'" } },
            ]),
        );
    }

    #[test]
    fn what_is_right_is_read() {
        let body = json!({ "a": "x", "n": "7", "f": "yes", "none": null });
        check(
            body,
            |fields| {
                assert_eq!(fields.required("a"), "x");
                assert_eq!((fields.int("n"), fields.flag("f")), (Some(7), Some(true)));
                assert_eq!((fields.text("none"), fields.object("o")), (None, None));
            },
            &Value::Null,
        );
    }
}
