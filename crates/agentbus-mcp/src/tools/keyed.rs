//! Writes that can be repeated: a key makes a tool do once what it is asked for twice.
//!
//! It is the `Idempotency-Key` of the HTTP routes, kept in the same place and for as long: the
//! outcome commits with the write, so a client that lost its answer gets it again, also after a
//! restart. A refused write is not kept. The keys of one principal are nobody else's.

use std::borrow::Cow;

use agentbus_chat::{Chat, ChatError, IdempotencyKey};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::Call;

const FIELD: &str = "idempotency_key";

/// What a tool is asked, with the key under which it is asked.
#[derive(Debug)]
pub(super) struct Keyed<T> {
    asked: T,
    key: Option<String>,
    /// What is asked without the key, to tell a repetition from another request.
    request: String,
}

impl<T> Keyed<T> {
    /// What is asked, and conversations whose next write happens once for the key.
    pub(super) fn open(self, chat: &Chat, call: &Call, tool: &str) -> Result<(T, Chat), ChatError> {
        let Some(key) = self.key else {
            return Ok((self.asked, chat.clone()));
        };
        let scope = format!("mcp {}", call.visitor().principal.as_str());
        let agent = call.session().agent();
        let agent = agent.as_ref().map_or("", |agent| agent.as_str());
        let request = format!("{tool}\n{agent}\n{}", self.request);
        let key = IdempotencyKey::new(&scope, &key, &request)?;
        Ok((self.asked, chat.under(Some(key))))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Keyed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let key = match fields.remove(FIELD) {
            None | Some(Value::Null) => None,
            Some(Value::String(key)) => Some(key),
            Some(_) => return Err(D::Error::custom("`idempotency_key` is a text")),
        };
        let fields = Value::Object(fields);
        Ok(Self {
            request: fields.to_string(),
            asked: serde_json::from_value(fields).map_err(D::Error::custom)?,
            key,
        })
    }
}

impl<T: JsonSchema> JsonSchema for Keyed<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Keyed{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        let properties = schema.ensure_object().entry("properties");
        if let Value::Object(properties) = properties.or_insert_with(|| json!({})) {
            let about = "Any text of yours: the same call with the same key within a day is done \
                         once and answered the same.";
            let field = json!({ "type": "string", "description": about });
            properties.insert(FIELD.to_owned(), field);
        }
        schema
    }
}
