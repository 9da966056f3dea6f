//! Tools: what a model can do.

use std::future::Future;
use std::sync::Arc;

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
    pub(crate) input: Option<Map<String, Value>>,
    pub(crate) output: Option<Map<String, Value>>,
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
        self.output = Some(schema::output::<T>());
        self
    }

    /// The same with a schema of its own for what it takes, for what Rust types cannot say.
    #[must_use]
    pub fn takes_schema(mut self, schema: Map<String, Value>) -> Self {
        self.input = Some(schema);
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
pub(crate) struct ToolEntry {
    pub(crate) about: Tool,
    pub(crate) input: Arc<Map<String, Value>>,
    pub(crate) output: Option<Arc<Map<String, Value>>>,
    check: Check,
    handler: Handler,
}

impl ToolEntry {
    pub(crate) fn new<I, F, R>(about: Tool, handler: F) -> Self
    where
        I: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Call, I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, Fault>> + Send + 'static,
    {
        let input = about.input.clone().unwrap_or_else(|| {
            let mut schema = schema::input::<I>();
            schema::without_null(&mut schema);
            schema
        });
        let handler = Arc::new(handler);
        let handler: Handler = Arc::new(move |call, given| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { handler(call, arguments(given)?).await })
        });
        Self {
            check: Check::new(&about.name, &input),
            input: Arc::new(input),
            output: about.output.clone().map(Arc::new),
            about,
            handler,
        }
    }

    /// Calls the tool. Arguments that do not fit are answered, not failed: the model can put them
    /// right.
    pub(crate) async fn call(&self, call: Call, given: Map<String, Value>) -> Result<Reply, Fault> {
        let given: Map<String, Value> = given
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect();
        let given = Value::Object(given);
        if let Err(problem) = self.check.run(&given) {
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
