//! What clients find: tools, resources and prompts, each with the handler behind it.
//!
//! Entries can come and go while clients are connected; those who listen are told.

mod prompt;
mod resource;
mod tool;
mod uri;

use std::future::Future;
use std::sync::Arc;

use agentbus_chat::BoxFuture;
use parking_lot::RwLock;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

pub use prompt::{Prompt, PromptArgument, Values};
pub use resource::Resource;
pub use tool::Tool;

pub(crate) use prompt::PromptEntry;
pub(crate) use resource::ResourceEntry;
pub(crate) use tool::ToolEntry;

use crate::{Call, Document, Fault, Filled, Reply, limits};

/// Offers values for an argument of which the beginning is typed.
pub(crate) type Completer =
    Arc<dyn Fn(String, String) -> BoxFuture<'static, Vec<String>> + Send + Sync>;

/// Something that listeners are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resources,
    Updated(Arc<str>),
}

/// Why an entry was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The name is taken.
    #[error("`{0}` is in the catalogue already; remove it first, or choose another name")]
    Taken(String),
    /// The catalogue is full.
    #[error(
        "the catalogue has {} entries of this kind, which is all it takes",
        limits::CATALOG_MAX
    )]
    Full,
}

/// The catalogue. Cloning gives another handle to the same one.
#[derive(Debug, Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tools: RwLock<Vec<Arc<ToolEntry>>>,
    resources: RwLock<Vec<Arc<ResourceEntry>>>,
    prompts: RwLock<Vec<Arc<PromptEntry>>>,
    changes: broadcast::Sender<Change>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new()
    }
}

impl Catalog {
    /// An empty catalogue.
    #[must_use]
    pub fn new() -> Self {
        let (changes, _) = broadcast::channel(limits::CHANGES);
        Self {
            inner: Arc::new(Inner {
                tools: RwLock::default(),
                resources: RwLock::default(),
                prompts: RwLock::default(),
                changes,
            }),
        }
    }

    /// Adds a tool. What it takes has the schema of `I`, unless the tool brings its own; arguments
    /// are checked against it before the handler is called.
    ///
    /// # Errors
    /// Fails when there is a tool of this name, or too many.
    pub fn add_tool<I, F, R>(&self, about: Tool, handler: F) -> Result<(), CatalogError>
    where
        I: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Call, I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, Fault>> + Send + 'static,
    {
        let entry = ToolEntry::new(about, handler);
        add(&self.inner.tools, entry, |one| &one.about.name)?;
        self.tell(Change::Tools);
        Ok(())
    }

    /// Removes a tool; whether there was one.
    #[expect(clippy::must_use_candidate, reason = "most do not care")]
    pub fn remove_tool(&self, name: &str) -> bool {
        let removed = remove(&self.inner.tools, |one| one.about.name == name);
        if removed {
            self.tell(Change::Tools);
        }
        removed
    }

    /// Adds a prompt.
    ///
    /// # Errors
    /// Fails when there is a prompt of this name, or too many.
    pub fn add_prompt<F, R>(&self, about: Prompt, handler: F) -> Result<(), CatalogError>
    where
        F: Fn(Call, Values) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Filled, Fault>> + Send + 'static,
    {
        self.put_prompt(PromptEntry::new(about, None, handler))
    }

    /// Adds a prompt, and what completes its arguments: a function of an argument's name and the
    /// beginning of its value.
    ///
    /// # Errors
    /// As [`Catalog::add_prompt`].
    pub fn add_prompt_with<F, R, C, V>(
        &self,
        about: Prompt,
        complete: C,
        handler: F,
    ) -> Result<(), CatalogError>
    where
        F: Fn(Call, Values) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Filled, Fault>> + Send + 'static,
        C: Fn(String, String) -> V + Send + Sync + 'static,
        V: Future<Output = Vec<String>> + Send + 'static,
    {
        self.put_prompt(PromptEntry::new(about, Some(completer(complete)), handler))
    }

    fn put_prompt(&self, entry: PromptEntry) -> Result<(), CatalogError> {
        add(&self.inner.prompts, entry, |one| &one.about.name)?;
        self.tell(Change::Prompts);
        Ok(())
    }

    /// Removes a prompt; whether there was one.
    #[expect(clippy::must_use_candidate, reason = "most do not care")]
    pub fn remove_prompt(&self, name: &str) -> bool {
        let removed = remove(&self.inner.prompts, |one| one.about.name == name);
        if removed {
            self.tell(Change::Prompts);
        }
        removed
    }

    /// Adds a resource, or with variables in its URI a template of resources. The reader gets the
    /// URI that is read and the values of its variables.
    ///
    /// # Errors
    /// Fails when there is a resource of this URI, or too many.
    pub fn add_resource<F, R>(&self, about: Resource, read: F) -> Result<(), CatalogError>
    where
        F: Fn(Call, String, Values) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<Document>, Fault>> + Send + 'static,
    {
        self.put_resource(ResourceEntry::new(about, read))
    }

    pub(crate) fn put_resource(&self, entry: ResourceEntry) -> Result<(), CatalogError> {
        add(&self.inner.resources, entry, |one| &one.about.uri)?;
        self.tell(Change::Resources);
        Ok(())
    }

    /// Tells those who listen to a resource that it has changed.
    pub fn resource_updated(&self, uri: &str) {
        self.tell(Change::Updated(uri.into()));
    }

    /// Tells those who listen that the list of resources has changed.
    pub fn resources_changed(&self) {
        self.tell(Change::Resources);
    }

    fn tell(&self, change: Change) {
        // Nobody may be listening.
        let _ = self.inner.changes.send(change);
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    pub(crate) fn tools(&self) -> Vec<Arc<ToolEntry>> {
        self.inner.tools.read().clone()
    }

    pub(crate) fn tool(&self, name: &str) -> Option<Arc<ToolEntry>> {
        let tools = self.inner.tools.read();
        tools.iter().find(|one| one.about.name == name).cloned()
    }

    pub(crate) fn prompts(&self) -> Vec<Arc<PromptEntry>> {
        self.inner.prompts.read().clone()
    }

    pub(crate) fn prompt(&self, name: &str) -> Option<Arc<PromptEntry>> {
        let prompts = self.inner.prompts.read();
        prompts.iter().find(|one| one.about.name == name).cloned()
    }

    pub(crate) fn resources(&self) -> Vec<Arc<ResourceEntry>> {
        self.inner.resources.read().clone()
    }

    /// Finds what reads a URI: a resource of just this URI before a template that it fits.
    pub(crate) fn resource(&self, uri: &str) -> Option<(Arc<ResourceEntry>, Values)> {
        let resources = self.inner.resources.read();
        let exact = resources.iter().find(|one| one.about.uri == uri);
        let fitting = || resources.iter().find(|one| one.values(uri).is_some());
        let found = exact.or_else(fitting)?;
        Some((Arc::clone(found), found.values(uri).unwrap_or_default()))
    }
}

pub(crate) fn completer<C, V>(complete: C) -> Completer
where
    C: Fn(String, String) -> V + Send + Sync + 'static,
    V: Future<Output = Vec<String>> + Send + 'static,
{
    Arc::new(move |name, typed| Box::pin(complete(name, typed)))
}

fn add<T>(
    list: &RwLock<Vec<Arc<T>>>,
    entry: T,
    name: impl Fn(&T) -> &String,
) -> Result<(), CatalogError> {
    let mut list = list.write();
    if list.iter().any(|one| name(one) == name(&entry)) {
        return Err(CatalogError::Taken(name(&entry).clone()));
    }
    if list.len() >= limits::CATALOG_MAX {
        return Err(CatalogError::Full);
    }
    list.push(Arc::new(entry));
    Ok(())
}

fn remove<T>(list: &RwLock<Vec<Arc<T>>>, is_it: impl Fn(&T) -> bool) -> bool {
    let mut list = list.write();
    let before = list.len();
    list.retain(|one| !is_it(one));
    list.len() < before
}
