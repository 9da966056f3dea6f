//! Tools: what a model can do.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use agentbus_chat::BoxFuture;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::call::arguments;
use crate::schema::{self, Check};
use crate::{Call, Fault, Profile, Reply};

type Handler =
    Arc<dyn Fn(Call, Map<String, Value>) -> BoxFuture<'static, Result<Reply, Fault>> + Send + Sync>;

/// What a tool says about itself.
#[derive(Debug, Clone)]
pub struct Tool {
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) description: String,
    input: Option<Map<String, Value>>,
    hidden: Vec<&'static str>,
    output: Option<fn() -> Map<String, Value>>,
    pub(crate) profile: Profile,
    pub(crate) read_only: bool,
    pub(crate) destructive: bool,
    pub(crate) idempotent: bool,
    pub(crate) open_world: bool,
}

impl Tool {
    /// A tool that is listed in every profile.
    #[must_use]
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            title: None,
            description: description.into(),
            input: None,
            hidden: Vec::new(),
            output: None,
            profile: Profile::Core,
            read_only: false,
            destructive: false,
            idempotent: false,
            open_world: false,
        }
    }

    /// The same with a name for people.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// The same, listed only for those who ask for everything. It can always be called.
    #[must_use]
    pub const fn extended(mut self) -> Self {
        self.profile = Profile::Full;
        self
    }

    /// The same with the schema of the data that it gives; an error fits it too.
    #[must_use]
    pub fn gives<T: JsonSchema>(mut self) -> Self {
        self.output = Some(schema::output::<T>);
        self
    }

    /// The same with a schema of its own for what it takes, for what Rust types cannot say.
    #[must_use]
    pub fn takes_schema(mut self, schema: Map<String, Value>) -> Self {
        self.input = Some(schema);
        self
    }

    /// The same with a field that only an operator switches on: unless it is `shown`, the schema
    /// does not have it. A value for it is taken all the same.
    #[must_use]
    pub(crate) fn with_optional(mut self, field: &'static str, shown: bool) -> Self {
        if !shown {
            self.hidden.push(field);
        }
        self
    }

    /// The same, changing nothing.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The same, removing what cannot be brought back.
    #[must_use]
    pub const fn destructive(mut self) -> Self {
        self.destructive = true;
        self
    }

    /// The same; a second call with the same arguments changes nothing more.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The same, reaching what the bus does not know.
    #[must_use]
    pub const fn open_world(mut self) -> Self {
        self.open_world = true;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A tool with its handler.
///
/// Its schemas are made when somebody first asks for them: they are most of what a catalogue costs,
/// and most servers that start are asked for none of them.
pub(crate) struct ToolEntry {
    pub(crate) about: Tool,
    /// The schema of the type that the handler takes.
    takes: fn() -> Map<String, Value>,
    input: OnceLock<Arc<Map<String, Value>>>,
    output: OnceLock<Arc<Map<String, Value>>>,
    check: OnceLock<Check>,
    handler: Handler,
}

impl ToolEntry {
    pub(crate) fn new<I, F, R>(about: Tool, handler: F) -> Self
    where
        I: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Call, I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, Fault>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let handler: Handler = Arc::new(move |call, given| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { handler(call, arguments(given)?).await })
        });
        Self {
            about,
            takes: schema::input::<I>,
            input: OnceLock::new(),
            output: OnceLock::new(),
            check: OnceLock::new(),
            handler,
        }
    }

    /// The schema of what it takes.
    pub(crate) fn input(&self) -> &Arc<Map<String, Value>> {
        self.input.get_or_init(|| {
            let own = self.about.input.clone();
            let mut schema = own.unwrap_or_else(|| schema::without_null((self.takes)()));
            schema::hide(&mut schema, &self.about.hidden);
            Arc::new(schema)
        })
    }

    /// The schema of the data that it gives, if it says so.
    pub(crate) fn output(&self) -> Option<&Arc<Map<String, Value>>> {
        let output = self.about.output?;
        Some(self.output.get_or_init(|| Arc::new(output())))
    }

    /// Calls the tool. Arguments that do not fit are answered, not failed: the model can put them
    /// right.
    pub(crate) async fn call(&self, call: Call, given: Map<String, Value>) -> Result<Reply, Fault> {
        let given: Map<String, Value> = given
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect();
        let given = Value::Object(given);
        let check = || Check::new(&self.about.name, self.input());
        if let Err(problem) = self.check.get_or_init(check).run(&given) {
            return Ok(Reply::error(problem));
        }
        let Value::Object(given) = given else {
            return Err(Fault::invalid("arguments are an object"));
        };
        (self.handler)(call, given).await
    }
}

impl std::fmt::Debug for ToolEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ToolEntry").field(&self.about).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde::Deserialize;

    use super::*;

    static MADE: AtomicUsize = AtomicUsize::new(0);

    #[derive(Deserialize)]
    struct Counted {}

    impl JsonSchema for Counted {
        fn schema_name() -> Cow<'static, str> {
            "Counted".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            MADE.fetch_add(1, Ordering::Relaxed);
            json_schema!({ "type": "object", "properties": { "a": true, "b": true } })
        }
    }

    #[test]
    fn a_schema_is_made_once_and_only_when_it_is_asked_for() {
        let about = Tool::new("tool", "").with_optional("a", true);
        let about = about.with_optional("b", false).gives::<Counted>();
        let entry = ToolEntry::new(about, |_: Call, _: Counted| async { Ok(Reply::error("")) });
        assert_eq!(MADE.load(Ordering::Relaxed), 0);
        for _ in 0..2 {
            let shown: Vec<_> = entry.input()["properties"]
                .as_object()
                .unwrap()
                .keys()
                .collect();
            assert_eq!(shown, ["a"]);
        }
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
        assert!(entry.output().unwrap()["properties"].get("b").is_some());
        assert_eq!(MADE.load(Ordering::Relaxed), 2);
    }
}
