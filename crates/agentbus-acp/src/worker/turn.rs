//! One prompt until its answer: what an engine may say and do meanwhile.
//!
//! Whatever is said is written down first and sent then, so that a replay never lacks what a client
//! has seen. A tool call that a cancellation cut off is told to have failed before the turn ends.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::content::{failure, of_tool};
use super::kinds::kind_of;
use super::mcp::{Offer, Said, Servers};
use super::session::Session;
use crate::sdk::serving;
use crate::sdk::serving::schema::{
    ContentBlock, ContentChunk, PermissionOption, PermissionOptionKind, RequestPermissionOutcome,
    RequestPermissionRequest, SessionUpdate, ToolCall, ToolCallStatus, ToolCallUpdate,
    ToolCallUpdateFields,
};
use crate::sdk::serving::{Client, Error};

/// The answers that a person may give to a tool, with the id that says what it means.
const OPTIONS: [(&str, &str, PermissionOptionKind); 3] = [
    ("allow_once", "Allow once", PermissionOptionKind::AllowOnce),
    (
        "allow_always",
        "Allow always",
        PermissionOptionKind::AllowAlways,
    ),
    ("reject_once", "Reject", PermissionOptionKind::RejectOnce),
];

/// Makes ids of tool calls distinct within a millisecond.
static CALLS: AtomicU64 = AtomicU64::new(1);

/// A turn under way.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    session: &'a Session,
    pub(super) servers: &'a Servers,
    client: Client,
    /// The tools of this turn.
    pub(super) offers: Vec<Offer>,
    /// Why there are not more of them.
    lost: Vec<String>,
    /// Calls that have begun and not ended.
    open: Mutex<BTreeSet<String>>,
}

impl<'a> Turn<'a> {
    pub(super) async fn new(session: &'a Session, servers: &'a Servers, client: Client) -> Self {
        let (offers, lost) = servers.tools().await;
        Self {
            session,
            servers,
            client,
            offers,
            lost,
            open: Mutex::default(),
        }
    }

    /// Returns the history of the session, this prompt included.
    pub(super) fn updates(&self) -> Vec<SessionUpdate> {
        self.session.updates()
    }

    /// Returns the model that the client chose.
    pub(super) fn model(&self) -> String {
        self.session.settings().model().to_owned()
    }

    /// Writes an update down and sends it.
    pub(super) async fn say(&self, update: SessionUpdate) -> Result<(), Error> {
        self.session
            .record(update.clone())
            .map_err(|error| unwritten(&error))?;
        self.client.update(&self.session.id, update).await
    }

    /// Sends an update that is no part of the history.
    pub(super) async fn mention(&self, update: SessionUpdate) -> Result<(), Error> {
        self.client.update(&self.session.id, update).await
    }

    /// Says text.
    pub(super) async fn text(&self, text: impl Into<ContentBlock>) -> Result<(), Error> {
        self.say(SessionUpdate::AgentMessageChunk(ContentChunk::new(
            text.into(),
        )))
        .await
    }

    /// Shows what the engine thinks.
    pub(super) async fn think(&self, text: impl Into<ContentBlock>) -> Result<(), Error> {
        self.say(SessionUpdate::AgentThoughtChunk(ContentChunk::new(
            text.into(),
        )))
        .await
    }

    /// Shows a call that cannot be made.
    pub(super) async fn refuse(&self, name: &str, why: Said) -> Result<Said, Error> {
        let id = self.begin(name, &Map::new()).await?;
        self.end(&id, &why).await?;
        Ok(why)
    }

    /// Says that a tool is not there, and which servers it may have been lost with.
    fn without(&self, name: &str) -> String {
        let mut said = format!("there is no tool `{name}` in this session");
        for why in &self.lost {
            said.push_str("; ");
            said.push_str(why);
        }
        said
    }

    /// Runs a tool as its user sees it: announced, asked for, running, done.
    pub(super) async fn call(
        &self,
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<Said, Error> {
        let offer = self.offers.iter().find(|offer| offer.tool.name == name);
        let id = self.begin(name, &arguments).await?;
        let said = match offer {
            None => failure(self.without(name)),
            Some(offer) => match self.permitted(&id, offer, &arguments).await {
                Err(refusal) => failure(refusal),
                Ok(()) => {
                    let running = ToolCallUpdateFields::new().status(ToolCallStatus::InProgress);
                    self.change(&id, running).await?;
                    let said = self.servers.call(offer, arguments).await;
                    said.unwrap_or_else(failure)
                }
            },
        };
        self.end(&id, &said).await?;
        Ok(said)
    }

    /// Tells that the calls under way were cut off.
    pub(super) async fn abandon(&self) -> Result<(), Error> {
        let open: Vec<_> = self.open.lock().iter().cloned().collect();
        for id in open {
            self.end(&id, &failure("the turn was cancelled")).await?;
        }
        Ok(())
    }

    /// Announces a call and returns its id.
    async fn begin(&self, name: &str, arguments: &Map<String, Value>) -> Result<String, Error> {
        let offer = self.offers.iter().find(|offer| offer.tool.name == name);
        let description = offer.map_or("", |offer| &offer.tool.description);
        let millis = jiff::Timestamp::now().as_millisecond();
        let id = format!("tool-{millis}-{}", CALLS.fetch_add(1, Ordering::Relaxed));
        self.open.lock().insert(id.clone());
        let call = ToolCall::new(id.clone(), title(name))
            .name(name.to_owned())
            .kind(kind_of(name, description))
            .status(ToolCallStatus::Pending)
            .raw_input(Value::Object(arguments.clone()));
        self.say(SessionUpdate::ToolCall(call)).await?;
        Ok(id)
    }

    /// Asks whether a tool may run; the reason if not.
    async fn permitted(
        &self,
        id: &str,
        offer: &Offer,
        arguments: &Map<String, Value>,
    ) -> Result<(), &'static str> {
        let name = &offer.tool.name;
        if self.session.allows(name) {
            return Ok(());
        }
        let options = OPTIONS.map(|(id, name, kind)| PermissionOption::new(id, name, kind));
        let fields = ToolCallUpdateFields::new()
            .title(title(name))
            .kind(kind_of(name, &offer.tool.description))
            .status(ToolCallStatus::Pending)
            .raw_input(Value::Object(arguments.clone()));
        let request = RequestPermissionRequest::new(
            self.session.id.clone(),
            ToolCallUpdate::new(id.to_owned(), fields),
            options.to_vec(),
        );
        match self.client.ask_permission(request).await {
            Ok(RequestPermissionOutcome::Selected(chosen)) => match &*chosen.option_id.0 {
                "allow_always" => {
                    self.session.allow(name);
                    Ok(())
                }
                // Clients have answers of their own that begin so.
                chosen if chosen.starts_with("allow") => Ok(()),
                _ => Err("Permission denied"),
            },
            Ok(_) => Err("Permission request cancelled"),
            Err(error) => {
                tracing::debug!(%error, "the client did not answer a permission request");
                Err("Permission denied")
            }
        }
    }

    async fn end(&self, id: &str, said: &Said) -> Result<(), Error> {
        let status = match said.failed {
            true => ToolCallStatus::Failed,
            false => ToolCallStatus::Completed,
        };
        let mut fields = ToolCallUpdateFields::new()
            .status(status)
            .content(of_tool(said));
        fields.raw_output = said.structured.clone();
        self.open.lock().remove(id);
        self.change(id, fields).await
    }

    async fn change(&self, id: &str, fields: ToolCallUpdateFields) -> Result<(), Error> {
        let update = ToolCallUpdate::new(id.to_owned(), fields);
        self.say(SessionUpdate::ToolCallUpdate(update)).await
    }
}

fn title(name: &str) -> String {
    format!("Executing: {name}")
}

/// What a client is told when the disk does not take its session.
pub(super) fn unwritten(error: &io::Error) -> Error {
    serving::failed(format!(
        "the history of the session cannot be written: {error}; free space in the data directory"
    ))
}
