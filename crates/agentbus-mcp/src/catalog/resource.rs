//! Resources: what a client can read and listen to.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use agentbus_chat::BoxFuture;

use super::uri::UriTemplate;
use super::{Completer, Values};
use crate::{Call, Document, Fault};

type Reader = Arc<
    dyn Fn(Call, String, Values) -> BoxFuture<'static, Result<Vec<Document>, Fault>> + Send + Sync,
>;
type Lister = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<Resource>, Fault>> + Send + Sync>;

/// What a resource says about itself, or what all resources of a template have in common.
#[derive(Debug, Clone)]
pub struct Resource {
    pub(crate) uri: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) mime: Option<String>,
}

impl Resource {
    /// A resource at a URI; with variables in braces, all that fit.
    #[must_use]
    pub fn new(uri: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            name: name.into(),
            description: None,
            mime: None,
        }
    }

    /// The same with a description.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The same with the type of its content.
    #[must_use]
    pub fn mime(mut self, mime: impl Into<String>) -> Self {
        self.mime = Some(mime.into());
        self
    }

    pub(crate) fn is_template(&self) -> bool {
        self.uri.contains('{')
    }
}

/// A resource or a template with its reader.
pub(crate) struct ResourceEntry {
    pub(crate) about: Resource,
    pub(crate) completer: Option<Completer>,
    template: UriTemplate,
    lister: Option<Lister>,
    reader: Reader,
}

impl ResourceEntry {
    pub(crate) fn new<F, R>(about: Resource, reader: F) -> Self
    where
        F: Fn(Call, String, Values) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<Document>, Fault>> + Send + 'static,
    {
        Self {
            template: UriTemplate::parse(&about.uri),
            about,
            completer: None,
            lister: None,
            reader: Arc::new(move |call, uri, values| Box::pin(reader(call, uri, values))),
        }
    }

    pub(crate) fn with_completer(mut self, completer: Completer) -> Self {
        self.completer = Some(completer);
        self
    }

    pub(crate) fn with_lister<R>(mut self, list: impl Fn() -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Result<Vec<Resource>, Fault>> + Send + 'static,
    {
        self.lister = Some(Arc::new(move || Box::pin(list())));
        self
    }

    pub(crate) fn values(&self, uri: &str) -> Option<BTreeMap<String, String>> {
        self.template.matches(uri)
    }

    /// What this entry adds to the list of resources.
    pub(crate) async fn listed(&self) -> Result<Vec<Resource>, Fault> {
        match &self.lister {
            Some(list) => list().await,
            None if self.about.is_template() => Ok(Vec::new()),
            None => Ok(vec![self.about.clone()]),
        }
    }

    pub(crate) async fn read(
        &self,
        call: Call,
        uri: String,
        values: Values,
    ) -> Result<Vec<Document>, Fault> {
        (self.reader)(call, uri, values).await
    }
}

impl std::fmt::Debug for ResourceEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ResourceEntry").field(&self.about).finish()
    }
}
