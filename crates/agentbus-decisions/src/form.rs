//! Forms: a flat JSON Schema, and whether an answer fits it.
//!
//! Both come from a peer. A schema is bounded, refers to nothing outside of itself, and its patterns
//! are matched in linear time. What is wrong with an answer is told without the answer: a form may
//! ask for what is nobody else's business.

use std::collections::BTreeSet;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::limits::{CONTENT_BYTES, FORM_BYTES, FORM_FIELDS, PATTERN_BYTES, PROBLEMS_MAX};

/// What is filled in. Cloning gives another handle.
#[derive(Debug, Clone)]
pub struct Form(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    schema: Value,
    fields: BTreeSet<String>,
    check: Validator,
}

/// Why a schema is no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// It is too long.
    #[error("the schema of a form may have {FORM_BYTES} bytes; this one has {0}")]
    TooLong(usize),
    /// It has too many fields.
    #[error("a form may have {FORM_FIELDS} fields; this one has {0}")]
    TooMany(usize),
    /// It describes something else than an object.
    #[error("the schema of a form describes an object with `properties`")]
    NoObject,
    /// A field is of a type that no person fills in.
    #[error(
        "the field `{0}` is none that a form can show; it has to be a string, a number, an \
         integer, a boolean, or an array of strings to choose from"
    )]
    Field(String),
    /// It is no JSON Schema.
    #[error("the schema of the form cannot be used: {0}")]
    Schema(String),
}

impl Form {
    /// Reads a schema.
    ///
    /// # Errors
    /// A [`FormError`] that says why no person could fill this in.
    pub fn new(schema: Value) -> Result<Self, FormError> {
        let bytes = schema.to_string().len();
        if bytes > FORM_BYTES {
            return Err(FormError::TooLong(bytes));
        }
        let fields = fields(&schema)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES);
        let check = jsonschema::options()
            .with_pattern_options(patterns)
            .should_validate_formats(true)
            .build(&schema)
            .map_err(|error| FormError::Schema(error.to_string()))?;
        Ok(Self(Arc::new(Inner {
            schema,
            fields,
            check,
        })))
    }

    /// The schema.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.0.schema
    }

    /// Says what is wrong with an answer, if anything is.
    ///
    /// # Errors
    /// A sentence for each problem, the first few of them.
    pub fn check(&self, content: &Map<String, Value>) -> Result<(), String> {
        let content = Value::Object(content.clone());
        let bytes = content.to_string().len();
        if bytes > CONTENT_BYTES {
            return Err(format!(
                "the answer has {bytes} bytes and may have {CONTENT_BYTES}"
            ));
        }
        let given = content.as_object().into_iter().flatten();
        let unknown = given.map(|(name, _)| name);
        let unknown = unknown.filter(|name| !self.0.fields.contains(*name));
        let mut problems: Vec<String> = unknown
            .map(|name| {
                format!(
                    "there is no field `{name}`; there is {}",
                    self.field_names()
                )
            })
            .collect();
        problems.extend(self.0.check.iter_errors(&content).map(|error| told(&error)));
        if problems.is_empty() {
            return Ok(());
        }
        let more = problems.len() > PROBLEMS_MAX;
        problems.truncate(PROBLEMS_MAX);
        if more {
            problems.push("and more".to_owned());
        }
        Err(problems.join("; "))
    }

    fn field_names(&self) -> String {
        let names: Vec<&str> = self.0.fields.iter().map(String::as_str).collect();
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    }
}

/// The names of the fields, if a person could fill all of them in.
fn fields(schema: &Value) -> Result<BTreeSet<String>, FormError> {
    if schema.get("type").is_some_and(|kind| kind != "object") {
        return Err(FormError::NoObject);
    }
    let fields = match schema.get("properties") {
        Some(Value::Object(fields)) => fields,
        // An empty form asks for a yes.
        None if schema.is_object() => return Ok(BTreeSet::new()),
        _ => return Err(FormError::NoObject),
    };
    if fields.len() > FORM_FIELDS {
        return Err(FormError::TooMany(fields.len()));
    }
    match fields.iter().find(|(_, field)| !is_plain(field)) {
        Some((name, _)) => Err(FormError::Field(name.clone())),
        None => Ok(fields.keys().cloned().collect()),
    }
}

fn is_plain(field: &Value) -> bool {
    match field["type"].as_str() {
        Some("string" | "number" | "integer" | "boolean") => true,
        Some("array") => {
            let items = &field["items"];
            // The titles of a choice stand in its alternatives, and those have no type of their own.
            items["type"] == "string" || items["anyOf"].is_array() || items["oneOf"].is_array()
        }
        _ => false,
    }
}

fn told(error: &ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let field = place.trim_start_matches('/');
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            format!("the field `{name}` is missing")
        }
        ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::AnyOf { .. } => {
            format!("`{field}` is none of the choices")
        }
        _ => format!("`{field}`: {}", error.masked()),
    }
}

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        self.0.schema == other.0.schema
    }
}

impl Serialize for Form {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.schema.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form() -> Form {
        Form::new(
            json!({ "type": "object", "required": ["name"], "properties": {
            "name": { "type": "string", "minLength": 2, "pattern": "^[a-z]+$" },
            "age": { "type": "integer", "minimum": 0 },
            "mail": { "type": "string", "format": "email" },
            "colour": { "type": "string", "oneOf": [{ "const": "r", "title": "Red" }] },
            "days": { "type": "array", "items": { "type": "string", "enum": ["mo", "tu"] } },
        } }),
        )
        .unwrap()
    }

    fn check(content: &Value, expect: Result<(), &str>) {
        let content = content.as_object().unwrap();
        let told = form().check(content);
        assert_eq!(told, expect.map_err(str::to_owned), "{content:?}");
    }

    #[test]
    fn an_answer_fits_its_form_or_is_told_why_not() {
        check(&json!({ "name": "ada" }), Ok(()));
        check(
            &json!({ "name": "ada", "age": 36, "mail": "a@b.org", "colour": "r", "days": ["mo"] }),
            Ok(()),
        );
        check(&json!({}), Err("the field `name` is missing"));
        check(
            &json!({ "name": "ada", "age": "old" }),
            Err("`age`: value is not of type \"integer\""),
        );
        check(
            &json!({ "name": "ada", "colour": "blue" }),
            Err("`colour` is none of the choices"),
        );
        check(
            &json!({ "name": "ada", "mail": "nowhere" }),
            Err("`mail`: value is not a \"email\""),
        );
        check(
            &json!({ "name": "ada", "shoe": 43 }),
            Err("there is no field `shoe`; there is age, colour, days, mail, name"),
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_the_answer() {
        let content = json!({ "name": "SECRET", "days": ["SECRET"] });
        let told = form().check(content.as_object().unwrap()).unwrap_err();
        assert!(!told.contains("SECRET"), "{told}");
        assert!(
            told.contains("`name`") && told.contains("`days/0`"),
            "{told}"
        );
    }

    #[test]
    fn only_what_a_person_can_fill_in_is_a_form() {
        let of = |field: Value| Form::new(json!({ "properties": { "f": field } }));
        for good in [
            json!({ "type": "boolean", "default": true }),
            json!({ "type": "array", "items": { "anyOf": [{ "const": "a", "title": "A" }] } }),
        ] {
            assert!(of(good).is_ok());
        }
        for bad in [
            json!({ "type": "object" }),
            json!({}),
            json!({ "$ref": "file:///etc" }),
        ] {
            assert_eq!(of(bad), Err(FormError::Field("f".to_owned())));
        }
        assert_eq!(
            Form::new(json!({ "type": "array" })),
            Err(FormError::NoObject)
        );
        assert_eq!(Form::new(json!(7)), Err(FormError::NoObject));
        let long = json!({ "type": "string", "title": "x".repeat(FORM_BYTES) });
        assert!(matches!(of(long), Err(FormError::TooLong(_))));
        let many = (0..=FORM_FIELDS).map(|n| (n.to_string(), json!({ "type": "string" })));
        let many = json!({ "properties": many.collect::<Map<_, _>>() });
        assert_eq!(Form::new(many), Err(FormError::TooMany(FORM_FIELDS + 1)));
        let foreign = json!({ "type": "string", "$ref": "http://127.0.0.1:1/schema" });
        assert!(
            matches!(of(foreign), Err(FormError::Schema(_))),
            "nothing is fetched"
        );
        // Matched with backtracking, it would take longer than anybody lives.
        let evil = of(json!({ "type": "string", "pattern": "^(a+)+$" })).unwrap();
        let content = json!({ "f": format!("{}b", "a".repeat(60_000)) });
        assert!(evil.check(content.as_object().unwrap()).is_err());
        let repeated = json!({ "type": "string", "pattern": "(((a{99}){99}){99}){99}" });
        assert!(matches!(of(repeated), Err(FormError::Schema(_))));
    }
}
