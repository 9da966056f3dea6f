//! The methods of the agent, each mapped to what a session does.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::limits::SESSIONS_OPEN_MAX;
use super::mcp::{Person, Servers};
use super::replay::merged;
use super::session::Session;
use super::settings::Settings;
use super::store::{About, History, Store};
use super::turn::{Turn, unwritten};
use crate::line::Place;
use crate::sdk::elicitation::Modes;
use crate::sdk::pages;
use crate::sdk::serving;
use crate::sdk::serving::schema;
use crate::sdk::serving::schema::{
    AgentCapabilities, AgentResponse, AuthenticateResponse, AvailableCommandsUpdate,
    ClientNotification, ClientRequest, CloseSessionResponse, ConfigOptionUpdate, ContentBlock,
    CurrentModeUpdate, DeleteSessionResponse, Implementation, InitializeRequest,
    InitializeResponse, ListSessionsRequest, LoadSessionRequest, LoadSessionResponse,
    McpCapabilities, McpServer, NewSessionRequest, NewSessionResponse, PromptCapabilities,
    PromptRequest, PromptResponse, ResumeSessionRequest, ResumeSessionResponse,
    SessionAdditionalDirectoriesCapabilities, SessionCapabilities, SessionCloseCapabilities,
    SessionDeleteCapabilities, SessionId, SessionInfo, SessionInfoUpdate, SessionListCapabilities,
    SessionResumeCapabilities, SessionUpdate, SetSessionConfigOptionRequest,
    SetSessionConfigOptionResponse, SetSessionModeRequest, SetSessionModeResponse, StopReason,
};
use crate::sdk::serving::{Agent, Answer, Client, Error, Reply, VERSION};

/// The agent of one connection. Cloning gives another handle.
#[derive(Debug, Clone)]
pub(super) struct Worker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    store: Store,
    sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
    /// How the client can ask its person, once it has said so.
    modes: OnceLock<Modes>,
}

/// Where a session works, and with what.
struct Setup {
    cwd: PathBuf,
    additional_directories: Vec<PathBuf>,
    servers: Vec<McpServer>,
}

impl Setup {
    fn new(cwd: PathBuf, additional_directories: Vec<PathBuf>, servers: Vec<McpServer>) -> Self {
        Self {
            cwd,
            additional_directories,
            servers,
        }
    }

    /// Refuses what no session can have, before anything is begun.
    fn check(&self) -> Result<(), Error> {
        let directories = std::iter::once(&self.cwd).chain(&self.additional_directories);
        for directory in directories {
            if !directory.is_absolute() {
                let data = format!("{} is no absolute path", directory.display());
                return Err(serving::invalid(data));
            }
        }
        Servers::check(&self.servers)
    }
}

impl Agent for Worker {
    fn request(
        &self,
        request: ClientRequest,
        client: Client,
        cancelled: CancellationToken,
    ) -> BoxFuture<'static, Reply> {
        let worker = self.clone();
        match request {
            ClientRequest::InitializeRequest(request) => self.initialize(&request),
            // Nothing needs a login; who asks for one has it.
            ClientRequest::AuthenticateRequest(_) => ready(Ok(
                AgentResponse::AuthenticateResponse(AuthenticateResponse::new()),
            )),
            ClientRequest::NewSessionRequest(request) => worker.create(request, client).boxed(),
            ClientRequest::LoadSessionRequest(request) => worker.load(request, client).boxed(),
            ClientRequest::ResumeSessionRequest(request) => worker.resume(request, client).boxed(),
            ClientRequest::ListSessionsRequest(request) => {
                async move { worker.list(request).await.into() }.boxed()
            }
            ClientRequest::CloseSessionRequest(request) => {
                async move { worker.close(&request.session_id).await.into() }.boxed()
            }
            ClientRequest::DeleteSessionRequest(request) => {
                async move { worker.delete(request.session_id).await.into() }.boxed()
            }
            ClientRequest::PromptRequest(request) => self.line_up(request, client, &cancelled),
            ClientRequest::SetSessionModeRequest(request) => self.set_mode(request, client),
            ClientRequest::SetSessionConfigOptionRequest(request) => {
                self.set_option(request, client)
            }
            _ => ready(Err(Error::method_not_found())),
        }
    }

    fn notification(&self, notification: ClientNotification) {
        // One that nobody knows is to be ignored.
        if let ClientNotification::CancelNotification(cancel) = notification
            && let Ok(session) = self.session(&cancel.session_id)
        {
            session.cancel();
        }
    }

    fn stop(&self) {
        for session in self.0.sessions.lock().values() {
            session.cancel();
        }
    }
}

impl Worker {
    pub(super) fn new(engine: Engine, store: Store) -> Self {
        Self(Arc::new(Inner {
            engine,
            store,
            sessions: Mutex::default(),
            modes: OnceLock::new(),
        }))
    }

    /// Ends every session, and the processes behind them.
    pub(super) async fn end(&self) {
        let sessions = std::mem::take(&mut *self.0.sessions.lock());
        join_all(sessions.values().map(|session| session.close())).await;
    }

    fn initialize(&self, request: &InitializeRequest) -> BoxFuture<'static, Reply> {
        let modes = Modes::of(&request.client_capabilities);
        // Only the first word counts: servers were told by it.
        let _ = self.0.modes.set(modes);
        let prompts = PromptCapabilities::new()
            .embedded_context(true)
            .image(self.0.engine.sees());
        let sessions = SessionCapabilities::new()
            .list(SessionListCapabilities::new())
            .delete(SessionDeleteCapabilities::new())
            .additional_directories(SessionAdditionalDirectoriesCapabilities::new())
            .resume(SessionResumeCapabilities::new())
            .close(SessionCloseCapabilities::new());
        let capabilities = AgentCapabilities::new()
            .load_session(true)
            .prompt_capabilities(prompts)
            .mcp_capabilities(McpCapabilities::new().http(true))
            .session_capabilities(sessions);
        let us = Implementation::new("agentbus-worker", env!("CARGO_PKG_VERSION"))
            .title("AgentBus worker".to_owned());
        let response = InitializeResponse::new(VERSION)
            .agent_capabilities(capabilities)
            .agent_info(us);
        ready(Ok(AgentResponse::InitializeResponse(response)))
    }

    async fn create(self, request: NewSessionRequest, client: Client) -> Reply {
        let setup = Setup::new(
            request.cwd,
            request.additional_directories,
            request.mcp_servers,
        );
        let opened = self.begin(setup, &client).await;
        let id = opened.as_ref().ok().map(|opened| opened.session.id.clone());
        let answer = opened.map(|opened| {
            let response = NewSessionResponse::new(opened.session.id.clone())
                .modes(opened.settings.modes())
                .config_options(opened.settings.options())
                .meta(opened.meta);
            AgentResponse::NewSessionResponse(response)
        });
        self.introduced(answer, id, client)
    }

    /// Opens a session that is new.
    async fn begin(&self, setup: Setup, client: &Client) -> Result<Opened, Error> {
        self.admit(&setup)?;
        let about = About {
            id: SessionId::new(uuid::Uuid::new_v4().to_string()),
            cwd: setup.cwd,
            additional_directories: setup.additional_directories,
            title: None,
        };
        let store = self.0.store.clone();
        let history = blocking(move || store.create(about)).await;
        let history = history.map_err(|error| unwritten(&error))?;
        Ok(self.open(history, setup.servers, client).await)
    }

    async fn load(self, request: LoadSessionRequest, client: Client) -> Reply {
        let id = request.session_id;
        let setup = Setup::new(
            request.cwd,
            request.additional_directories,
            request.mcp_servers,
        );
        let answer = match self.reopen(&id, setup, &client).await {
            Ok(opened) => replay(&opened.session, &client).await.map(|()| {
                let response = LoadSessionResponse::new()
                    .modes(opened.settings.modes())
                    .config_options(opened.settings.options())
                    .meta(opened.meta);
                AgentResponse::LoadSessionResponse(response)
            }),
            Err(error) => Err(error),
        };
        self.introduced(answer, Some(id), client)
    }

    async fn resume(self, request: ResumeSessionRequest, client: Client) -> Reply {
        let id = request.session_id;
        let setup = Setup::new(
            request.cwd,
            request.additional_directories,
            request.mcp_servers,
        );
        let answer = self.reopen(&id, setup, &client).await.map(|opened| {
            let response = ResumeSessionResponse::new()
                .modes(opened.settings.modes())
                .config_options(opened.settings.options())
                .meta(opened.meta);
            AgentResponse::ResumeSessionResponse(response)
        });
        self.introduced(answer, Some(id), client)
    }

    /// Tells the commands of the engine right after a session began.
    fn introduced(&self, answer: Answer, id: Option<SessionId>, client: Client) -> Reply {
        let commands = self.0.engine.commands();
        let reply = Reply::from(answer);
        match id {
            Some(id) if !commands.is_empty() => reply.then(async move {
                let update = AvailableCommandsUpdate::new(commands);
                let update = SessionUpdate::AvailableCommandsUpdate(update);
                // A client that is gone needs no commands.
                let _ = client.update(&id, update).await;
            }),
            _ => reply,
        }
    }

    /// Opens a session that is kept, in another place and with other servers if asked to.
    async fn reopen(&self, id: &SessionId, setup: Setup, client: &Client) -> Result<Opened, Error> {
        // Whoever opens it again means this connection to go on with it.
        let open = self.0.sessions.lock().remove(id);
        if let Some(session) = open {
            session.close().await;
        }
        self.admit(&setup)?;
        let (store, wanted) = (self.0.store.clone(), id.clone());
        let history = blocking(move || store.read(&wanted)).await;
        let missing = || Error::from(schema::Error::session_not_found(id.clone()));
        let mut history = history
            .map_err(|error| unreadable(&error))?
            .ok_or_else(missing)?;
        history.about.cwd = setup.cwd;
        history.about.additional_directories = setup.additional_directories;
        Ok(self.open(history, setup.servers, client).await)
    }

    /// Refuses a session that cannot be, or that is one too many.
    fn admit(&self, setup: &Setup) -> Result<(), Error> {
        if self.0.sessions.lock().len() >= SESSIONS_OPEN_MAX {
            let data = format!("{SESSIONS_OPEN_MAX} sessions are open; close one first");
            return Err(serving::refused(data));
        }
        setup.check()
    }

    /// Reaches the servers of a session and enters it.
    async fn open(&self, history: History, servers: Vec<McpServer>, client: &Client) -> Opened {
        let modes = self.0.modes.get().copied().unwrap_or_default();
        let person = Person::new(client.clone(), history.about.id.clone(), modes);
        let servers = Servers::connect(servers, history.about.cwd.clone(), &person).await;
        let meta = [("agentbus.mcpServers".to_owned(), servers.report())];
        let settings = Settings::new(self.0.engine.models());
        let session = Session::new(history, settings.clone(), servers);
        let id = session.id.clone();
        self.0.sessions.lock().insert(id, Arc::clone(&session));
        Opened {
            session,
            settings,
            meta: meta.into_iter().collect(),
        }
    }

    async fn list(&self, request: ListSessionsRequest) -> Answer {
        let store = self.0.store.clone();
        let kept = blocking(move || store.list())
            .await
            .map_err(|error| unreadable(&error))?;
        let wanted = |cwd: &Path| request.cwd.as_ref().is_none_or(|wanted| wanted == cwd);
        let here = kept.into_iter().filter(|kept| wanted(&kept.about.cwd));
        let shown = here.map(|kept| {
            let changed = jiff::Timestamp::try_from(kept.changed);
            SessionInfo::new(kept.about.id, kept.about.cwd)
                .additional_directories(kept.about.additional_directories)
                .title(kept.about.title)
                .updated_at(changed.ok().map(|time| time.to_string()))
        });
        pages::page(&request, shown)
    }

    async fn close(&self, id: &SessionId) -> Answer {
        let session = self.session(id)?;
        self.0.sessions.lock().remove(id);
        session.close().await;
        Ok(AgentResponse::CloseSessionResponse(
            CloseSessionResponse::new(),
        ))
    }

    async fn delete(&self, id: SessionId) -> Answer {
        let open = self.0.sessions.lock().remove(&id);
        if let Some(session) = open {
            session.close().await;
        }
        let store = self.0.store.clone();
        let deleted = blocking(move || store.delete(&id)).await;
        deleted.map_err(|error| unwritten(&error))?;
        Ok(AgentResponse::DeleteSessionResponse(
            DeleteSessionResponse::new(),
        ))
    }

    /// Gives a prompt its place in its session, before the next request is taken, and runs it there.
    fn line_up(
        &self,
        request: PromptRequest,
        client: Client,
        cancelled: &CancellationToken,
    ) -> BoxFuture<'static, Reply> {
        let worker = self.clone();
        let placed = self.session(&request.session_id);
        let placed = placed.and_then(|session| {
            let place = session.line_up(cancelled)?;
            Ok((session, place))
        });
        async move {
            match placed {
                Ok((session, place)) => {
                    let prompt = request.prompt;
                    worker.prompt(&session, &place, prompt, client).await.into()
                }
                Err(error) => Err(error).into(),
            }
        }
        .boxed()
    }

    async fn prompt(
        &self,
        session: &Session,
        place: &Place,
        prompt: Vec<ContentBlock>,
        client: Client,
    ) -> Answer {
        place.reached().await;
        let servers = session.servers.read().await;
        let mut reason = Ok(StopReason::Cancelled);
        if !place.cancelled.is_cancelled() {
            let turn = Turn::new(session, &servers, client).await;
            reason = self.turn(session, place, &turn, &prompt).await;
            session.sync().await.map_err(|error| unwritten(&error))?;
        }
        reason.map(|reason| AgentResponse::PromptResponse(PromptResponse::new(reason)))
    }

    async fn turn(
        &self,
        session: &Session,
        place: &Place,
        turn: &Turn<'_>,
        prompt: &[ContentBlock],
    ) -> Result<StopReason, Error> {
        let named = session.ask(prompt).map_err(|error| unwritten(&error))?;
        if let Some(title) = named {
            let info = SessionInfoUpdate::new().title(title);
            turn.mention(SessionUpdate::SessionInfoUpdate(info)).await?;
        }
        let outcome = tokio::select! {
            biased;
            () = place.cancelled.cancelled() => Ok(StopReason::Cancelled),
            outcome = self.0.engine.run(turn, prompt) => outcome,
        };
        turn.abandon().await?;
        outcome
    }

    fn session(&self, id: &SessionId) -> Result<Arc<Session>, Error> {
        let session = self.0.sessions.lock().get(id).cloned();
        session.ok_or_else(|| schema::Error::session_not_found(id.clone()).into())
    }

    fn set(
        &self,
        id: &SessionId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error>,
    ) -> Result<Settings, Error> {
        self.session(id)?.set(change)
    }

    /// Answers, and shows the new mode in the options too.
    fn set_mode(
        &self,
        request: SetSessionModeRequest,
        client: Client,
    ) -> BoxFuture<'static, Reply> {
        let set = self.set(&request.session_id, |settings| {
            settings.set_mode(&request.mode_id.0)
        });
        let update = set.as_ref().ok().map(|settings| {
            SessionUpdate::ConfigOptionUpdate(ConfigOptionUpdate::new(settings.options()))
        });
        let answer =
            set.map(|_| AgentResponse::SetSessionModeResponse(SetSessionModeResponse::new()));
        told(answer, update, request.session_id, client)
    }

    /// Answers, and shows the new option in the modes too.
    fn set_option(
        &self,
        request: SetSessionConfigOptionRequest,
        client: Client,
    ) -> BoxFuture<'static, Reply> {
        let set = self.set(&request.session_id, |settings| {
            settings.set_option(&request.config_id.0, &request.value)
        });
        let update = set.as_ref().ok().map(|settings| {
            SessionUpdate::CurrentModeUpdate(CurrentModeUpdate::new(settings.mode()))
        });
        let answer = set.map(|settings| {
            let response = SetSessionConfigOptionResponse::new(settings.options());
            AgentResponse::SetSessionConfigOptionResponse(response)
        });
        told(answer, update, request.session_id, client)
    }
}

/// A session that was just opened, and what its client is told of it.
struct Opened {
    session: Arc<Session>,
    settings: Settings,
    meta: serde_json::Map<String, serde_json::Value>,
}

/// Sends all of a session's history.
async fn replay(session: &Session, client: &Client) -> Result<(), Error> {
    for update in merged(session.updates()) {
        client.update(&session.id, update).await?;
    }
    Ok(())
}

fn ready(answer: Answer) -> BoxFuture<'static, Reply> {
    std::future::ready(Reply::from(answer)).boxed()
}

/// Answers, and tells of what changed right after.
fn told(
    answer: Answer,
    update: Option<SessionUpdate>,
    id: SessionId,
    client: Client,
) -> BoxFuture<'static, Reply> {
    let then = async move {
        if let Some(update) = update {
            // A client that is gone need not know.
            let _ = client.update(&id, update).await;
        }
    };
    std::future::ready(Reply::from(answer).then(then)).boxed()
}

/// Runs what waits for the disk where waiting is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn unreadable(error: &io::Error) -> Error {
    serving::failed(format!(
        "the sessions cannot be read from the data directory: {error}"
    ))
}
