//! The conversation model: what may happen, in which order, and who hears of it.
//!
//! Every change is a function of [`Core`] over a transaction. [`Chat`] hands it to the store.

mod agents;
mod background;
mod cards;
mod connect;
mod coordinator;
mod decision;
mod edit;
mod events;
mod export;
mod guidance;
mod look;
mod meeting;
mod patience;
mod post;
mod reactions;
mod settings;
mod sweep;
mod sync;
mod templates;
mod threads;
mod transcript;
mod wait;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

pub use agents::{AgentUpdate, Credentials, Kicked, NewAgent, ProvenAgent, Registered};
pub use background::Background;
pub use cards::Card;
pub use connect::{Connected, Join};
pub use decision::{Decided, Decision, DecisionAction};
pub use edit::Edited;
pub use events::{EventReader, Followed};
pub use guidance::system_row;
pub use look::Overview;
pub use meeting::ClosedMeeting;
pub(crate) use patience::Patience;
pub use post::{Draft, Posted, Proof, Sync};
pub use settings::SettingsUpdate;
pub use templates::NewTemplate;
pub use threads::{NewThread, Opened};
pub use transcript::Transcript;
pub use wait::{WaitRequest, Waited};

use crate::model::{AuditEntry, NewEvent};
use crate::store::sqlite::Imported;
use crate::store::{Promise, SqliteStore, Store, StoreError, Tx, look, perform};
use crate::{Ambient, ChatConfig, ChatError, Stamp, ThreadId, limits, secret, store};

/// Conversations. Cloning is cheap and gives another handle to the same ones.
#[derive(Clone)]
pub struct Chat {
    inner: Arc<Inner>,
    /// Under which the next write is done at most once.
    key: Option<IdempotencyKey>,
}

struct Inner {
    core: Arc<Core>,
    store: Arc<dyn Store>,
    waits: Semaphore,
}

/// What every change needs besides its transaction.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: ChatConfig,
    pub(crate) ambient: Ambient,
}

/// Makes a write happen once, however often it is asked for.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    key: String,
    fingerprint: String,
}

impl IdempotencyKey {
    /// Takes a key within the scope of whoever chose it, and what is asked under it: another
    /// request under the same key is a mistake.
    ///
    /// # Errors
    /// Fails when the key is empty or too long.
    pub fn new(scope: &str, key: &str, request: &str) -> Result<Self, ChatError> {
        if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(ChatError::invalid(
                "an idempotency key has 1 to 255 characters",
            ));
        }
        Ok(Self {
            key: format!("{scope}\0{key}"),
            fingerprint: secret::fingerprint(request),
        })
    }
}

impl Chat {
    /// Opens conversations that are kept in a SQLite file.
    ///
    /// # Errors
    /// Fails when the file cannot be opened or is none of ours.
    pub async fn open(path: impl Into<PathBuf>, config: ChatConfig) -> Result<Self, ChatError> {
        let store = Arc::new(SqliteStore::open(path).await?);
        Self::over(store, config, Ambient::default()).await
    }

    /// Opens conversations that are kept where a URL says: `sqlite://PATH`, or
    /// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
    ///
    /// # Errors
    /// Fails when there is no such kind of store in this build, or when the store does.
    pub async fn open_url(url: &str, config: ChatConfig) -> Result<Self, ChatError> {
        Self::over(store::open(url).await?, config, Ambient::default()).await
    }

    /// Opens conversations over a store, with given time and randomness.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn over(
        store: Arc<dyn Store>,
        config: ChatConfig,
        ambient: Ambient,
    ) -> Result<Self, ChatError> {
        let core = Arc::new(Core { config, ambient });
        let chat = Self {
            inner: Arc::new(Inner {
                core,
                store,
                waits: Semaphore::new(limits::WAITS_MAX),
            }),
            key: None,
        };
        chat.write(Core::begin).await?;
        Ok(chat)
    }

    /// The same conversations; the next write through this handle happens once for this key.
    #[must_use]
    pub fn under(&self, key: Option<IdempotencyKey>) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            key,
        }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ChatConfig {
        &self.inner.core.config
    }

    /// The time as the conversations see it.
    #[must_use]
    pub fn now(&self) -> Stamp {
        self.inner.core.ambient.now()
    }

    /// The store underneath.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Finishes what was begun, and lets go of the store.
    pub async fn close(&self) {
        self.inner.waits.close();
        self.inner.store.close().await;
    }

    /// Refuses what [`Chat::import`] would refuse of a file at once, for whoever has nothing open yet.
    ///
    /// # Errors
    /// Fails when the file is no database of AgentChatBus.
    pub async fn check_import(file: &Path) -> Result<(), ChatError> {
        crate::store::sqlite::check_import(file).await
    }

    /// Takes over the conversations of an AgentChatBus 0.1.8 database, telling how many of how many
    /// messages are done. Repeating it changes nothing.
    ///
    /// # Errors
    /// Fails when the file is no such database, or when its numbers are taken here.
    pub async fn import(
        &self,
        file: &Path,
        progress: &mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<Imported, ChatError> {
        crate::store::sqlite::import_into(&*self.inner.store, file, progress).await
    }

    /// Does something outside of the store, at most once under the handle's key, and one after
    /// another. It holds the writer up, so it has to be short.
    ///
    /// # Errors
    /// Fails when the work does, which is not kept, or when the key was used for another request.
    pub async fn once<T>(
        &self,
        work: impl FnOnce() -> Result<T, ChatError> + Send + 'static,
    ) -> Result<T, ChatError>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.write(move |_, _| work()).await
    }

    /// Changes something, at most once under the handle's key, and waits until it is stored.
    async fn write<T>(
        &self,
        change: impl FnOnce(&Core, &mut dyn Tx) -> Result<T, ChatError> + Send + 'static,
    ) -> Result<T, ChatError>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let Some(key) = self.key.clone() else {
            return self.write_with(Promise::Stored, change).await;
        };
        self.write_with(Promise::Stored, move |core, tx| {
            once(core, tx, &key, change)
        })
        .await
    }

    /// Changes something whose outcome must not be kept, or is not worth waiting for.
    async fn write_with<T: Send + 'static>(
        &self,
        promise: Promise,
        change: impl FnOnce(&Core, &mut dyn Tx) -> Result<T, ChatError> + Send + 'static,
    ) -> Result<T, ChatError> {
        let core = Arc::clone(&self.inner.core);
        let store = &*self.inner.store;
        perform(store, promise, move |tx| change(&core, tx)).await
    }

    /// Looks at what is committed.
    async fn read<T: Send + 'static>(
        &self,
        view: impl FnOnce(&Core, &dyn Tx) -> Result<T, ChatError> + Send + 'static,
    ) -> Result<T, ChatError> {
        let core = Arc::clone(&self.inner.core);
        look(&*self.inner.store, move |tx| view(&core, tx)).await
    }
}

/// Does a change unless it was done under this key; its outcome commits with it.
fn once<T: Serialize + DeserializeOwned>(
    core: &Core,
    tx: &mut dyn Tx,
    key: &IdempotencyKey,
    change: impl FnOnce(&Core, &mut dyn Tx) -> Result<T, ChatError>,
) -> Result<T, ChatError> {
    let unreadable = |error: serde_json::Error| StoreError::Failed(error.to_string());
    match tx.outcome(&key.key)? {
        Some((fingerprint, _)) if fingerprint != key.fingerprint => Err(ChatError::KeyReused),
        Some((_, json)) => Ok(serde_json::from_str(&json).map_err(unreadable)?),
        None => {
            let outcome = change(core, tx)?;
            let json = serde_json::to_string(&outcome).map_err(unreadable)?;
            tx.put_outcome(&key.key, &key.fingerprint, &json, core.now())?;
            Ok(outcome)
        }
    }
}

impl Core {
    fn now(&self) -> Stamp {
        self.ambient.now()
    }

    /// What a start finds and puts right: templates that come with the bus, and waits that ended
    /// with the process that served them.
    fn begin(&self, tx: &mut dyn Tx) -> Result<(), ChatError> {
        for template in crate::model::builtin_templates(self.now()) {
            tx.insert_template(&template)?;
        }
        Ok(tx.remove_all_waits()?)
    }

    /// Stores an event in the transaction of what it tells of.
    fn emit(
        &self,
        tx: &mut dyn Tx,
        kind: &'static str,
        thread: Option<&ThreadId>,
        payload: serde_json::Value,
    ) -> Result<(), ChatError> {
        let event = NewEvent {
            kind,
            thread_id: thread.cloned(),
            payload,
        };
        tx.append_event(event, self.now())?;
        Ok(())
    }

    fn audit(
        &self,
        tx: &mut dyn Tx,
        actor: &str,
        action: &'static str,
        thread: Option<&ThreadId>,
        subject: Option<&str>,
    ) -> Result<(), ChatError> {
        Ok(tx.audit(&AuditEntry {
            at: self.now(),
            actor: actor.to_owned(),
            action,
            thread_id: thread.cloned(),
            subject: subject.map(str::to_owned),
        })?)
    }

    /// Refuses a text that looks like it holds a secret.
    fn filter(&self, field: &'static str, text: &str) -> Result<(), ChatError> {
        if !self.config.content_filter {
            return Ok(());
        }
        match crate::filter::secret_in(text) {
            Some(pattern) => Err(ChatError::ContentBlocked { field, pattern }),
            None => Ok(()),
        }
    }
}

/// Refuses what is larger than its limit.
fn within(what: &'static str, bytes: usize, limit: usize) -> Result<(), ChatError> {
    if bytes <= limit {
        return Ok(());
    }
    Err(ChatError::TooLarge { what, bytes, limit })
}

/// The same for JSON.
fn json_within(what: &'static str, value: Option<&serde_json::Value>) -> Result<(), ChatError> {
    let bytes = value.map_or(0, |value| value.to_string().len());
    within(what, bytes, limits::METADATA_BYTES_MAX)
}

/// The beginning of a text.
fn excerpt(text: &str) -> String {
    text.chars().take(limits::EVENT_EXCERPT_CHARS).collect()
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat")
            .field("store", &self.inner.store)
            .finish_non_exhaustive()
    }
}
