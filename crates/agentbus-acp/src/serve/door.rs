//! The methods of the protocol, for one connection of an editor.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Map;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::attached::Attached;
use super::choice::Choice;
use super::turn::{Finished, Turn};
use super::{Editors, Visit, refusal};
use crate::client::bus_stopped;
use crate::company::{Abilities, Serves};
use crate::limits::{EDITOR_REQUESTS, SESSION_QUEUE};
use crate::line::Place;
use crate::log::EditorSession;
use crate::sdk::elicitation::Modes;
use crate::sdk::pages;
use crate::sdk::serving::schema::{
    AgentCapabilities, AgentResponse, ClientNotification, ClientRequest, CloseSessionResponse,
    DeleteSessionResponse, Implementation, InitializeRequest, InitializeResponse,
    ListSessionsRequest, McpCapabilities, PromptCapabilities, PromptRequest, PromptResponse,
    SessionAdditionalDirectoriesCapabilities, SessionCapabilities, SessionCloseCapabilities,
    SessionDeleteCapabilities, SessionInfo, SessionListCapabilities, SessionResumeCapabilities,
    StopReason,
};
use crate::sdk::serving::{self, Agent, Answer, Client, Error, Reply, VERSION};

/// How long the end of cancelled turns is waited for when a session is closed: a little longer than
/// an agent may take to end one.
const SETTLING: Duration = Duration::from_secs(12);

/// One connection. Cloning gives another handle.
#[derive(Debug, Clone)]
pub(super) struct Door(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) editors: Editors,
    pub(super) choice: Choice,
    /// What the editor said of itself.
    pub(super) editor: OnceLock<Abilities>,
    pub(super) sessions: Mutex<HashMap<String, Arc<Attached>>>,
    /// Requests that may be under way.
    pub(super) room: Arc<Semaphore>,
    /// Fires when the editor has left.
    pub(super) left: CancellationToken,
}

impl Agent for Door {
    fn request(
        &self,
        request: ClientRequest,
        client: Client,
        withdrawn: CancellationToken,
    ) -> BoxFuture<'static, Reply> {
        let Ok(place) = Arc::clone(&self.0.room).try_acquire_owned() else {
            return ready(Err(refusal::too_many_requests()));
        };
        let answer = self.answer(request, client, &withdrawn);
        async move {
            let reply = answer.await;
            drop(place);
            reply
        }
        .boxed()
    }

    fn notification(&self, notification: ClientNotification) {
        // One that nobody knows is to be ignored.
        if let ClientNotification::CancelNotification(cancel) = notification
            && let Ok(attached) = self.attached(&cancel.session_id.0)
        {
            attached.line.cancel();
        }
    }

    fn stop(&self) {
        self.0.left.cancel();
    }
}

impl Door {
    pub(super) fn new(editors: Editors, visit: Visit) -> Self {
        Self(Arc::new(Inner {
            choice: Choice::new(editors.clone(), visit),
            editors,
            editor: OnceLock::new(),
            sessions: Mutex::default(),
            room: Arc::new(Semaphore::new(EDITOR_REQUESTS)),
            left: CancellationToken::new(),
        }))
    }

    fn answer(
        &self,
        request: ClientRequest,
        client: Client,
        withdrawn: &CancellationToken,
    ) -> BoxFuture<'static, Reply> {
        let door = self.clone();
        let first = matches!(request, ClientRequest::InitializeRequest(_));
        if !first && self.0.editor.get().is_none() {
            return ready(Err(refusal::not_introduced()));
        }
        match request {
            ClientRequest::InitializeRequest(request) => self.initialize(&request),
            ClientRequest::NewSessionRequest(request) => {
                async move { door.create(request, client).await }.boxed()
            }
            ClientRequest::LoadSessionRequest(request) => {
                async move { door.load(request, client).await }.boxed()
            }
            ClientRequest::ResumeSessionRequest(request) => {
                async move { door.resume(request, client).await }.boxed()
            }
            ClientRequest::ListSessionsRequest(request) => {
                async move { door.list(request).await.into() }.boxed()
            }
            ClientRequest::CloseSessionRequest(request) => {
                async move { door.close(&request.session_id.0).await.into() }.boxed()
            }
            ClientRequest::DeleteSessionRequest(request) => {
                async move { door.delete(&request.session_id.0).await.into() }.boxed()
            }
            ClientRequest::PromptRequest(request) => {
                let placed = self.line_up(&request.session_id.0, withdrawn);
                async move {
                    match placed {
                        Ok((attached, place)) => {
                            door.prompt(&attached, place, request).await.into()
                        }
                        Err(error) => Err(error).into(),
                    }
                }
                .boxed()
            }
            ClientRequest::SetSessionModeRequest(request) => {
                async move { door.set_mode(&request).await.into() }.boxed()
            }
            ClientRequest::SetSessionConfigOptionRequest(request) => {
                async move { door.set_option(request, client).await }.boxed()
            }
            _ => ready(Err(Error::method_not_found())),
        }
    }

    fn initialize(&self, request: &InitializeRequest) -> BoxFuture<'static, Reply> {
        let can = &request.client_capabilities;
        // A second time changes nothing.
        let _ = self.0.editor.set(Abilities {
            serves: Serves {
                read: can.fs.read_text_file,
                write: can.fs.write_text_file,
                terminal: can.terminal,
            },
            asks: Modes::of(can),
            notices: serving::takes_notices(can),
        });
        // Who serves a session may be chosen later; what it does not take, it refuses itself.
        let prompts = PromptCapabilities::new()
            .image(true)
            .audio(true)
            .embedded_context(true);
        let sessions = SessionCapabilities::new()
            .list(SessionListCapabilities::new())
            .delete(SessionDeleteCapabilities::new())
            .additional_directories(SessionAdditionalDirectoriesCapabilities::new())
            .resume(SessionResumeCapabilities::new())
            .close(SessionCloseCapabilities::new());
        let capabilities = AgentCapabilities::new()
            .load_session(true)
            .prompt_capabilities(prompts)
            .mcp_capabilities(McpCapabilities::new().http(true).sse(true))
            .session_capabilities(sessions);
        let us =
            Implementation::new("agentbus", env!("CARGO_PKG_VERSION")).title("AgentBus".to_owned());
        let response = InitializeResponse::new(VERSION)
            .agent_capabilities(capabilities)
            .agent_info(us);
        ready(Ok(AgentResponse::InitializeResponse(response)))
    }

    /// What the editor said of itself; nothing before it said anything.
    pub(super) fn editor(&self) -> Abilities {
        self.0.editor.get().copied().unwrap_or_default()
    }

    pub(super) fn attached(&self, id: &str) -> Result<Arc<Attached>, Error> {
        let attached = self.0.sessions.lock().get(id).cloned();
        attached.ok_or_else(|| refusal::no_session(id))
    }

    fn line_up(
        &self,
        id: &str,
        withdrawn: &CancellationToken,
    ) -> Result<(Arc<Attached>, Place), Error> {
        let attached = self.attached(id)?;
        let place = attached.line.line_up(withdrawn, SESSION_QUEUE);
        let place = place.map_err(|_| refusal::queue_full())?;
        Ok((attached, place))
    }

    async fn prompt(&self, attached: &Attached, place: Place, request: PromptRequest) -> Answer {
        place.reached().await;
        if place.cancelled.is_cancelled() {
            return Ok(stopped(Finished::cancelled()));
        }
        attached.seat.take_control();
        let editors = self.0.editors.clone();
        let key = attached.seat.key().clone();
        self.name(attached, &request).await;
        let turn = Turn {
            key: key.clone(),
            prompt: serde_json::to_value(&request.prompt).unwrap_or_default(),
            meta: request.meta,
            mark: uuid::Uuid::new_v4().to_string(),
        };
        let mark = turn.mark.clone();
        attached.own.lock().insert(mark.clone());
        let running = editors.0.turns.spawn(turn.run(editors.clone(), place));
        let ended = tokio::select! {
            ended = running => ended,
            () = self.0.left.cancelled() => return Err(self.leaving()),
        };
        // A turn does not panic, and is aborted only with its runtime.
        let ended = ended.map_err(|error| serving::failed(error.to_string()))?;
        let last = editors.0.log.last(&key).await;
        if let Ok(last) = last {
            tokio::select! {
                () = attached.told(last) => {}
                () = self.0.left.cancelled() => return Err(self.leaving()),
            }
        }
        // One that never began was not found in the log.
        attached.own.lock().remove(&mark);
        ended.map(stopped).map_err(|error| refusal::of_bus(&error))
    }

    /// Why a prompt has no answer when its connection ends.
    fn leaving(&self) -> Error {
        match self.0.editors.0.stopping.is_cancelled() {
            true => refusal::of_bus(&bus_stopped()),
            false => refusal::leaving(),
        }
    }

    /// Gives a session the title of its first prompt.
    async fn name(&self, attached: &Attached, request: &PromptRequest) {
        let title = {
            let mut session = attached.session.lock();
            if session.title.is_some() {
                return;
            }
            let title = crate::worker::title_of(&request.prompt).unwrap_or_default();
            session.title = Some(title.clone());
            title
        };
        let id = attached.session().id;
        if let Err(error) = self.0.editors.0.log.name(&id, title).await {
            tracing::warn!(%error, session = %id, "a session has no title");
        }
    }

    async fn list(&self, request: ListSessionsRequest) -> Answer {
        let kept = self.0.editors.0.log.editor_sessions().await;
        let kept = kept.map_err(|error| refusal::of_log(&error))?;
        let wanted = |session: &EditorSession| {
            let here = request.cwd.as_ref().is_none_or(|cwd| *cwd == session.cwd);
            here && self.0.choice.covers(session)
        };
        let shown = kept.into_iter().filter(wanted).map(|session| {
            let changed = i64::try_from(session.touched_ms).ok();
            let changed = changed.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            let meta = [("agentbus.agent".to_owned(), session.key.agent.into())];
            SessionInfo::new(session.id, session.cwd)
                .additional_directories(session.directories)
                .title(session.title)
                .updated_at(changed.map(|time| time.to_string()))
                .meta(meta.into_iter().collect::<Map<_, _>>())
        });
        pages::page(&request, shown)
    }

    /// Leaves a session. The last editor to leave ends its turns, and the agent forgets it.
    async fn close(&self, id: &str) -> Answer {
        let attached = self.attached(id)?;
        self.0.sessions.lock().remove(id);
        if !attached.seat.is_shared() {
            self.end(&attached.session()).await;
        }
        Ok(AgentResponse::CloseSessionResponse(
            CloseSessionResponse::new(),
        ))
    }

    async fn delete(&self, id: &str) -> Answer {
        drop(self.0.sessions.lock().remove(id));
        let found = self.0.editors.0.log.editor_session(id).await;
        let found = found.map_err(|error| refusal::of_log(&error))?;
        // What is not there is deleted.
        if let Some(session) = found {
            self.end(&session).await;
            let forgotten = self.0.editors.0.log.forget(&session).await;
            forgotten.map_err(|error| refusal::of_log(&error))?;
        }
        Ok(AgentResponse::DeleteSessionResponse(
            DeleteSessionResponse::new(),
        ))
    }

    /// Cancels the turns of editors in a session, and has its agent forget it.
    async fn end(&self, session: &EditorSession) {
        let line = self.0.editors.line(&session.id);
        line.cancel();
        // One whose agent does not stop has lost its session anyway.
        let _ = tokio::time::timeout(SETTLING, line.emptied()).await;
        if let Some(agents) = self.0.editors.driving(&session.key.agent) {
            agents.close(&session.key.agent, &session.key.session).await;
        }
    }
}

fn ready(answer: Answer) -> BoxFuture<'static, Reply> {
    std::future::ready(Reply::from(answer)).boxed()
}

fn stopped(finished: Finished) -> AgentResponse {
    // What this version of the protocol does not know is an end like any other.
    let reason = serde_json::from_value(finished.reason.into()).unwrap_or(StopReason::EndTurn);
    AgentResponse::PromptResponse(PromptResponse::new(reason).meta(finished.meta))
}
