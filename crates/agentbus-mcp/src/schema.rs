//! Schemas of what tools take and give.
//!
//! They are written in the plainest form that says the same, because hosts translate them for
//! their models and trip over references and lists of types: everything stands in place, and a
//! field that may be missing has the type it has when it is there.

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of a type that is read.
pub(crate) fn input<T: JsonSchema>() -> Map<String, Value> {
    let mut schema = plain::<T>(SchemaSettings::draft2020_12());
    schema.entry("type").or_insert_with(|| json!("object"));
    schema.entry("properties").or_insert_with(|| json!({}));
    schema
}

/// The schema of a type that is written, or of the error that is written instead: a client checks
/// both against it.
pub(crate) fn output<T: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = plain::<T>(settings);
    let required = schema.remove("required").unwrap_or_else(|| json!([]));
    if required.as_array().is_none_or(Vec::is_empty) {
        return schema;
    }
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    properties["error"] =
        json!({ "type": "string", "description": "What went wrong, if anything did" });
    let either = json!([{ "required": required }, { "required": ["error"] }]);
    schema.insert("anyOf".to_owned(), either);
    schema
}

fn plain<T: JsonSchema>(settings: SchemaSettings) -> Map<String, Value> {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    simplify(&mut value);
    match value {
        Value::Object(mut schema) => {
            schema.remove("title");
            schema
        }
        _ => Map::new(),
    }
}

/// Takes out what Rust knows about a number and models do not care about.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("format").is_some_and(|format| {
                let format = format.as_str().unwrap_or_default();
                format.starts_with("int") || format.starts_with("uint") || format == "double"
            }) {
                fields.remove("format");
            }
            fields.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// Takes fields out of a schema.
pub(crate) fn hide(schema: &mut Map<String, Value>, fields: &[&str]) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.retain(|name, _| !fields.contains(&name.as_str()));
    }
}

/// Lets a field be missing: in what is read, a field that is `null` counts as missing and is taken
/// out before the check, so its schema need not allow `null`.
pub(crate) fn without_null(mut schema: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return schema;
    };
    for property in properties.values_mut() {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                property["type"] = only.clone();
            }
        }
        if property["default"].is_null()
            && let Some(fields) = property.as_object_mut()
        {
            fields.remove("default");
        }
    }
    schema
}

/// Checks arguments before a handler sees them.
#[derive(Debug)]
pub(crate) struct Check(Option<Validator>);

impl Check {
    /// A schema that cannot be compiled is not checked against: the handler reads its arguments
    /// itself, and refuses what it cannot read.
    pub(crate) fn new(name: &str, schema: &Map<String, Value>) -> Self {
        let built = jsonschema::options().build(&Value::Object(schema.clone()));
        if let Err(error) = &built {
            tracing::warn!(tool = name, %error, "the input schema cannot be used for checks");
        }
        Self(built.ok())
    }

    /// Says what is wrong, in the words that clients of AgentChatBus know.
    pub(crate) fn run(&self, arguments: &Value) -> Result<(), String> {
        let Some(validator) = &self.0 else {
            return Ok(());
        };
        let Some(error) = validator.iter_errors(arguments).next() else {
            return Ok(());
        };
        let what = match error.kind() {
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                format!("'{name}' is a required property")
            }
            _ => error.to_string(),
        };
        let place = error.instance_path().to_string();
        if place.is_empty() {
            return Err(format!("Input validation error: {what}"));
        }
        Err(format!("Input validation error: {what} (at {place})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    /// What a tool takes.
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Taken {
        /// Where.
        thread_id: String,
        /// How many.
        #[serde(default)]
        limit: Option<u32>,
    }

    #[derive(Serialize, JsonSchema)]
    struct Given {
        seq: i64,
    }

    #[test]
    fn a_field_that_may_be_missing_has_one_type() {
        let schema = without_null(input::<Taken>());
        let expect = json!({ "type": "object", "description": "What a tool takes.",
            "properties": {
                "thread_id": { "type": "string", "description": "Where." },
                "limit": { "type": "integer", "description": "How many.", "minimum": 0 } },
            "required": ["thread_id"] });
        assert_eq!(Value::Object(schema), expect);
    }

    #[test]
    fn an_answer_or_an_error_fits_the_schema_of_what_is_given() {
        let schema = Value::Object(output::<Given>());
        assert!(jsonschema::is_valid(&schema, &json!({ "seq": 3 })));
        assert!(jsonschema::is_valid(
            &schema,
            &json!({ "error": "no", "detail": "x" })
        ));
        assert!(!jsonschema::is_valid(&schema, &json!({ "sequence": 3 })));
    }

    #[test]
    fn what_is_wrong_is_said_as_clients_know_it() {
        let check = Check::new("tool", &input::<Taken>());
        let missing = check.run(&json!({})).unwrap_err();
        assert_eq!(
            missing,
            "Input validation error: 'thread_id' is a required property"
        );
        let wrong = check.run(&json!({ "thread_id": 1 })).unwrap_err();
        assert!(wrong.contains("is not of type \"string\""), "{wrong}");
        assert_eq!(check.run(&json!({ "thread_id": "t" })), Ok(()));
    }
}
