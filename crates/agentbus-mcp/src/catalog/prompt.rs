//! Prompts: texts that a person picks and fills in.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use agentbus_chat::BoxFuture;

use super::Completer;
use crate::{Call, Fault, Filled};

/// The values of a prompt's arguments, by name.
pub type Values = BTreeMap<String, String>;

type Handler = Arc<dyn Fn(Call, Values) -> BoxFuture<'static, Result<Filled, Fault>> + Send + Sync>;

/// One argument of a prompt.
#[derive(Debug, Clone)]
pub struct PromptArgument {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) required: bool,
}

/// What a prompt says about itself.
#[derive(Debug, Clone)]
pub struct Prompt {
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) description: String,
    pub(crate) arguments: Vec<PromptArgument>,
}

impl Prompt {
    /// A prompt without arguments.
    #[must_use]
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            title: None,
            description: description.into(),
            arguments: Vec::new(),
        }
    }

    /// The same with a name for people.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// The same with an argument that must be given.
    #[must_use]
    pub fn needs(self, name: &str, description: &str) -> Self {
        self.argument(name, description, true)
    }

    /// The same with an argument that may be given.
    #[must_use]
    pub fn takes(self, name: &str, description: &str) -> Self {
        self.argument(name, description, false)
    }

    fn argument(mut self, name: &str, description: &str, required: bool) -> Self {
        self.arguments.push(PromptArgument {
            name: name.to_owned(),
            description: description.to_owned(),
            required,
        });
        self
    }
}

/// A prompt with its handler.
pub(crate) struct PromptEntry {
    pub(crate) about: Prompt,
    pub(crate) completer: Option<Completer>,
    handler: Handler,
}

impl PromptEntry {
    pub(crate) fn new<F, R>(about: Prompt, completer: Option<Completer>, handler: F) -> Self
    where
        F: Fn(Call, Values) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Filled, Fault>> + Send + 'static,
    {
        Self {
            about,
            completer,
            handler: Arc::new(move |call, values| Box::pin(handler(call, values))),
        }
    }

    pub(crate) async fn fill(&self, call: Call, values: Values) -> Result<Filled, Fault> {
        let missing = |one: &&PromptArgument| one.required && !values.contains_key(&one.name);
        if let Some(argument) = self.about.arguments.iter().find(missing) {
            let (prompt, name) = (&self.about.name, &argument.name);
            return Err(Fault::invalid(format!(
                "the prompt `{prompt}` needs `{name}`"
            )));
        }
        (self.handler)(call, values).await
    }
}

impl std::fmt::Debug for PromptEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PromptEntry").field(&self.about).finish()
    }
}
