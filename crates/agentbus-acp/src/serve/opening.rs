//! How a session comes to be open in a connection: new, or taken up again.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::attached::Attached;
use super::choice::Choice;
use super::door::Door;
use super::feed::{Feed, Own};
use super::listener::Listener;
use super::refusal;
use crate::client::{Offer, Setup};
use crate::limits::EDITOR_SESSIONS;
use crate::log::{EditorSession, Key};
use crate::sdk::serving::schema::{
    AgentResponse, LoadSessionRequest, NewSessionRequest, ResumeSessionRequest,
};
use crate::sdk::serving::{Answer, Client, Error, Reply};

/// A session that was just opened, and what its editor is told of it.
pub(super) struct Opened {
    session: EditorSession,
    attached: Arc<Attached>,
    feed: Feed,
    offer: Offer,
    /// Why its agent did not open it.
    unavailable: Option<Error>,
    /// Up to where the log is not kept any more.
    forgotten: u64,
}

impl Opened {
    /// All options of the session.
    pub(super) fn options(&self, choice: &Choice) -> Option<Vec<Value>> {
        choice.options(&self.session, &self.offer)
    }

    /// What opening a session is answered with; the three ways have the same members.
    fn response<T: DeserializeOwned>(&self, choice: &Choice) -> Result<T, Error> {
        let mut meta = self.offer.meta.clone().unwrap_or_default();
        if let Some(error) = &self.unavailable {
            meta.insert("agentbus.unavailable".to_owned(), json!(error.message));
        }
        if self.forgotten > 0 {
            meta.insert("agentbus.forgotten".to_owned(), json!(self.forgotten));
        }
        if !self.offer.left_out.is_empty() {
            let left_out = json!(self.offer.left_out);
            meta.insert("agentbus.mcpServersLeftOut".to_owned(), left_out);
        }
        let mut answer = json!({ "sessionId": self.session.id, "_meta": meta });
        if let Some(modes) = &self.offer.modes {
            answer["modes"] = modes.clone();
        }
        if let Some(options) = self.options(choice) {
            answer["configOptions"] = options.into();
        }
        serde_json::from_value(answer).map_err(Error::into_internal_error)
    }

    /// Answers, and tells what comes from then on.
    pub(super) fn introduced(self, answer: Answer) -> Reply {
        let (attached, feed) = (self.attached, self.feed);
        Reply::from(answer).then(async move { attached.follow(feed) })
    }
}

/// Answers with what became of opening a session.
fn reply<T: DeserializeOwned>(
    opened: Result<Opened, Error>,
    choice: &Choice,
    response: impl FnOnce(T) -> AgentResponse,
) -> Reply {
    match opened {
        Ok(opened) => {
            let answer = opened.response(choice).map(response);
            opened.introduced(answer)
        }
        Err(error) => Err(error).into(),
    }
}

impl Door {
    pub(super) async fn create(self, request: NewSessionRequest, client: Client) -> Reply {
        let opened = self.begin(request, client).await;
        reply(opened, &self.0.choice, AgentResponse::NewSessionResponse)
    }

    pub(super) async fn load(self, request: LoadSessionRequest, client: Client) -> Reply {
        let directories = request.additional_directories;
        let setup = self.setup(request.cwd, directories, &request.mcp_servers, request.meta);
        let opened = self
            .reopen(&request.session_id.0, setup, true, client)
            .await;
        reply(opened, &self.0.choice, AgentResponse::LoadSessionResponse)
    }

    pub(super) async fn resume(self, request: ResumeSessionRequest, client: Client) -> Reply {
        let directories = request.additional_directories;
        let setup = self.setup(request.cwd, directories, &request.mcp_servers, request.meta);
        let opened = self
            .reopen(&request.session_id.0, setup, false, client)
            .await;
        reply(opened, &self.0.choice, AgentResponse::ResumeSessionResponse)
    }

    /// Opens a session that is new.
    async fn begin(&self, request: NewSessionRequest, client: Client) -> Result<Opened, Error> {
        let directories = request.additional_directories;
        let setup = self.setup(request.cwd, directories, &request.mcp_servers, request.meta)?;
        let id = uuid::Uuid::new_v4().to_string();
        let session = EditorSession {
            key: Key {
                agent: self.0.choice.first()?,
                session: id.clone(),
            },
            id,
            cwd: setup.cwd.clone().unwrap_or_default(),
            directories: setup.directories.clone(),
            title: None,
            touched_ms: 0,
        };
        let opened = self.open(session, setup, 0, client).await?;
        // Where another one can be chosen, the session is of use all the same.
        if let Some(error) = opened
            .unavailable
            .clone()
            .filter(|_| !self.0.choice.is_offered())
        {
            self.0.sessions.lock().remove(&opened.session.id);
            return Err(error);
        }
        self.keep(&opened.session).await?;
        Ok(opened)
    }

    /// Opens a session that is kept, and tells its history first if it is wanted.
    async fn reopen(
        &self,
        id: &str,
        setup: Result<Setup, Error>,
        tells: bool,
        client: Client,
    ) -> Result<Opened, Error> {
        let setup = setup?;
        // Whoever opens it again begins anew in this connection.
        drop(self.0.sessions.lock().remove(id));
        let mut session = self.find(id).await?;
        // One that a caller of the bus began is in no directory of an editor's.
        if session.id == session.key.session {
            session.cwd = setup.cwd.clone().unwrap_or_default();
            session.directories.clone_from(&setup.directories);
            self.keep(&session).await?;
        }
        let last = self.0.editors.0.log.last(&session.key).await;
        let last = last.map_err(|error| refusal::of_log(&error))?;
        let from = if tells { 0 } else { last };
        let mut opened = self.open(session, setup, from, client).await?;
        opened.forgotten = opened.feed.catch_up(last).await?;
        Ok(opened)
    }

    /// Enters a session of this connection, and opens it in its agent. What was said can be read
    /// without the agent.
    pub(super) async fn open(
        &self,
        session: EditorSession,
        setup: Setup,
        from: u64,
        client: Client,
    ) -> Result<Opened, Error> {
        let (attached, feed) = self.attach(session.clone(), setup.clone(), from, client)?;
        let prepared = self.prepare(&session.key, setup).await;
        let (offer, unavailable) = match prepared {
            Ok(offer) => (offer, None),
            Err(error) => (Offer::default(), Some(error)),
        };
        Ok(Opened {
            session,
            attached,
            feed,
            offer,
            unavailable,
            forgotten: 0,
        })
    }

    fn attach(
        &self,
        session: EditorSession,
        setup: Setup,
        from: u64,
        client: Client,
    ) -> Result<(Arc<Attached>, Feed), Error> {
        let editors = &self.0.editors;
        let (key, id) = (session.key.clone(), session.id.clone());
        let follower = editors.0.log.follower(&key.id(), from);
        let (own, choice) = (Own::default(), self.0.choice.clone());
        let listener = Listener {
            client: client.clone(),
            id: session.id.clone(),
            notices: self.editor().notices,
        };
        let (feed, told) = Feed::new(&session, follower, listener, choice, own.clone());
        let seat = editors
            .0
            .company
            .join(key, client, id.clone(), self.editor());
        let attached = Arc::new(Attached {
            session: session.into(),
            setup,
            seat,
            line: editors.line(&id),
            own,
            told,
            feed: Default::default(),
        });
        let mut sessions = self.0.sessions.lock();
        if sessions.len() >= EDITOR_SESSIONS && !sessions.contains_key(&id) {
            return Err(refusal::too_many_sessions());
        }
        sessions.insert(id, Arc::clone(&attached));
        Ok((attached, feed))
    }

    /// Opens a session in its agent; other targets have nothing to open.
    async fn prepare(&self, key: &Key, setup: Setup) -> Result<Offer, Error> {
        let Some(agents) = self.0.editors.driving(&key.agent) else {
            return Ok(Offer::default());
        };
        let prepared = agents.prepare(&key.agent, &key.session, setup).await;
        prepared.map_err(|error| refusal::of_bus(&error))
    }

    fn setup(
        &self,
        cwd: PathBuf,
        directories: Vec<PathBuf>,
        servers: &[impl Serialize],
        meta: Option<Map<String, Value>>,
    ) -> Result<Setup, Error> {
        for directory in std::iter::once(&cwd).chain(&directories) {
            if !directory.is_absolute() {
                return Err(refusal::not_absolute(directory));
            }
        }
        let servers = servers.iter().map(serde_json::to_value);
        Ok(Setup {
            cwd: Some(cwd),
            directories,
            servers: servers.filter_map(Result::ok).collect(),
            meta,
            serves: self.editor().serves,
        })
    }

    pub(super) async fn keep(&self, session: &EditorSession) -> Result<(), Error> {
        let kept = self.0.editors.0.log.keep(session.clone()).await;
        kept.map_err(|error| refusal::of_log(&error))
    }

    pub(super) async fn find(&self, id: &str) -> Result<EditorSession, Error> {
        let found = self.0.editors.0.log.editor_session(id).await;
        let found = found.map_err(|error| refusal::of_log(&error))?;
        found.ok_or_else(|| refusal::no_session(id))
    }
}
