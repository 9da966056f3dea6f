//! The bus as a client of an agent: typed calls to it, and its requests in words of our own.
//!
//! It promises that every request of the agent is answered. It does not see `session/update`: those
//! lines never reach the SDK, whose queues have no bound.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    AgentRequest, CancelNotification, ClientCapabilities, CloseSessionRequest,
    CompleteElicitationNotification, CreateTerminalResponse, ErrorCode, FileSystemCapabilities,
    Implementation, InitializeRequest, KillTerminalResponse, LoadSessionRequest, NewSessionRequest,
    PromptCapabilities, PromptRequest, ReadTextFileResponse, ReleaseTerminalResponse,
    RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse,
    ResumeSessionRequest, SelectedPermissionOutcome, SetSessionConfigOptionRequest,
    SetSessionModeRequest, StopReason, TerminalExitStatus, TerminalOutputResponse,
    WaitForTerminalExitResponse, WriteTextFileResponse,
};
use agent_client_protocol::{
    Agent, Client, Error, JsonRpcRequest, Lines, is_connection_terminated,
    is_incoming_transport_closed, on_receive_notification, on_receive_request,
};
use futures_util::{Sink, Stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::elicitation::{self, Elicit};
use super::place::Place;
use super::prompt::{Ending, Meta, Prompt, Stop};
use crate::client::Offer;
use crate::company::Serves;
use crate::decide::{self, Choice};

/// What an agent asks of whoever drives it, in which session, and in its own words.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) ask: Ask,
    /// As the agent calls it; empty where there is none.
    pub(crate) session: String,
    pub(crate) method: String,
    pub(crate) params: Value,
}

/// What is asked.
#[derive(Debug)]
pub(crate) enum Ask {
    Permission {
        title: String,
        kind: Option<String>,
        detail: Value,
        options: Vec<Choice>,
    },
    Elicit(Elicit),
    Read {
        path: PathBuf,
        line: Option<u32>,
        limit: Option<u32>,
    },
    Write {
        path: PathBuf,
        content: String,
    },
    CreateTerminal {
        argv: Vec<String>,
        env: Vec<(String, String)>,
        cwd: Option<PathBuf>,
        output_bytes: Option<u64>,
    },
    TerminalOutput(String),
    TerminalExit(String),
    KillTerminal(String),
    ReleaseTerminal(String),
    /// A method that nobody here serves.
    Unknown(String),
}

/// What it is answered; each fits one kind of question.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The option that was chosen; `None` if the turn was cancelled.
    Chosen(Option<String>),
    /// What was answered to an elicitation; `None` if nobody did.
    Elicited(Option<decide::Answer>),
    Text(String),
    Written,
    Terminal(String),
    Output {
        text: String,
        truncated: bool,
        exit: Option<TerminalExit>,
    },
    Exited(TerminalExit),
    Killed,
    Released,
    /// What somebody else has answered, as it is.
    Passed(Value),
}

/// How the program in a terminal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TerminalExit {
    pub(crate) code: Option<u32>,
    pub(crate) signal: Option<String>,
}

/// Why it is refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// The request itself is wrong, for example a path outside of the root.
    Invalid(String),
    /// There is no such file or terminal.
    Missing(String),
    /// Nobody serves this.
    Unserved(String),
    /// It could not be done.
    Failed(String),
    /// Somebody else refused it, in these words.
    Passed(Fault),
}

/// Answers what an agent asks.
pub(crate) trait Host: Send + Sync + 'static {
    fn answer(&self, asked: Asked) -> impl Future<Output = Result<Answer, Refusal>> + Send;

    /// Hears that what the agent sent a person elsewhere for is done.
    fn completed(&self, elicitation: &str);
}

/// An error that an agent answered with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
    /// Not the agent's own: the connection ended before it answered.
    pub(crate) hung_up: bool,
}

/// What an agent said about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abilities {
    pub(crate) name: Option<String>,
    pub(crate) load: bool,
    pub(crate) resume: bool,
    pub(crate) close: bool,
    /// Which MCP servers it takes besides those that it starts itself.
    pub(super) http: bool,
    pub(super) sse: bool,
    pub(super) directories: bool,
    /// How one may log in, for the sentence that says that one must.
    pub(crate) logins: Vec<String>,
    pub(super) prompt: PromptCapabilities,
}

/// Calls an agent. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct Caller(ConnectionTo<Agent>);

/// Runs one connection until `stop`, or until the agent hangs up.
///
/// `ready` gets the handle for calls as soon as there is one.
pub(crate) async fn drive<H: Host>(
    outgoing: impl Sink<String, Error = io::Error> + Send + 'static,
    incoming: impl Stream<Item = io::Result<String>> + Send + 'static,
    host: Arc<H>,
    ready: oneshot::Sender<Caller>,
    stop: CancellationToken,
) {
    let told = Arc::clone(&host);
    let serve =
        async move |request: AgentRequest, responder: Responder, cx: ConnectionTo<Agent>| {
            let host = Arc::clone(&host);
            // Beside the loop: a question may wait for a person, and the rest must not.
            cx.spawn(async move {
                let answer = host.answer(asked(request)).await;
                // Fails only when the agent is gone.
                let _ = responder.respond_with_result(answered(answer));
                Ok(())
            })
        };
    let ended = Client
        .v1()
        .name("agentbus")
        .on_receive_request(serve, on_receive_request!())
        .on_receive_notification(
            async move |done: CompleteElicitationNotification, _| {
                told.completed(&done.elicitation_id.0);
                Ok(())
            },
            on_receive_notification!(),
        )
        .connect_with(Lines::new(outgoing, incoming), async |cx| {
            let _ = ready.send(Caller(cx));
            stop.cancelled().await;
            Ok(())
        })
        .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to an agent ended");
    }
}

type Responder = agent_client_protocol::v1::Responder<Value>;

impl Caller {
    /// Says who we are, what we serve, and whether a person can be asked for more than permissions,
    /// and learns the same of the agent.
    pub(crate) async fn initialize(&self, serves: Serves, asks: bool) -> Result<Abilities, Fault> {
        let files = FileSystemCapabilities::new()
            .read_text_file(serves.read)
            .write_text_file(serves.write);
        let serves = ClientCapabilities::new()
            .fs(files)
            .terminal(serves.terminal)
            .elicitation(asks.then(elicitation::modes));
        let us = Implementation::new("agentbus", env!("CARGO_PKG_VERSION"));
        let request = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(serves)
            .client_info(us);
        let said = self.call(request).await?;
        let can = said.agent_capabilities;
        Ok(Abilities {
            name: said.agent_info.map(|info| info.name),
            load: can.load_session,
            resume: can.session_capabilities.resume.is_some(),
            close: can.session_capabilities.close.is_some(),
            http: can.mcp_capabilities.http,
            sse: can.mcp_capabilities.sse,
            directories: can.session_capabilities.additional_directories.is_some(),
            logins: said
                .auth_methods
                .iter()
                .map(|method| method.name().to_owned())
                .collect(),
            prompt: can.prompt_capabilities,
        })
    }

    /// Opens a session and returns its id, and what may be set on it.
    pub(crate) async fn open(&self, place: Place) -> Result<(String, Offer), Fault> {
        let request = NewSessionRequest::new(place.cwd)
            .additional_directories(place.directories)
            .mcp_servers(place.servers)
            .meta(place.meta);
        let opened = self.call(request).await?;
        let options = opened.config_options.as_deref();
        let offer = offer(opened.modes.as_ref(), options, opened.meta, place.left_out);
        Ok((opened.session_id.to_string(), offer))
    }

    /// Takes a session up again without its history.
    pub(crate) async fn resume(&self, session: &str, place: Place) -> Result<Offer, Fault> {
        let request = ResumeSessionRequest::new(session.to_owned(), place.cwd)
            .additional_directories(place.directories)
            .mcp_servers(place.servers)
            .meta(place.meta);
        let opened = self.call(request).await?;
        let options = opened.config_options.as_deref();
        let modes = opened.modes.as_ref();
        Ok(offer(modes, options, opened.meta, place.left_out))
    }

    /// Takes a session up again; the agent repeats its history as updates first.
    pub(crate) async fn load(&self, session: &str, place: Place) -> Result<Offer, Fault> {
        let request = LoadSessionRequest::new(session.to_owned(), place.cwd)
            .additional_directories(place.directories)
            .mcp_servers(place.servers)
            .meta(place.meta);
        let opened = self.call(request).await?;
        let options = opened.config_options.as_deref();
        let modes = opened.modes.as_ref();
        Ok(offer(modes, options, opened.meta, place.left_out))
    }

    /// Sets the mode of a session.
    pub(crate) async fn set_mode(&self, session: &str, mode: &str) -> Result<(), Fault> {
        let request = SetSessionModeRequest::new(session.to_owned(), mode.to_owned());
        self.call(request).await.map(drop)
    }

    /// Sets an option of a session, as the client wrote it, and returns all of them.
    pub(crate) async fn set_option(
        &self,
        session: &str,
        mut params: Value,
    ) -> Result<Vec<Value>, Fault> {
        params["sessionId"] = session.into();
        let request: SetSessionConfigOptionRequest =
            serde_json::from_value(params).map_err(Error::into_internal_error)?;
        let set = self.call(request).await?;
        Ok(set.config_options.iter().filter_map(value).collect())
    }

    /// Lets the agent forget a session that is not needed any more.
    pub(crate) async fn close(&self, session: &str) -> Result<(), Fault> {
        let request = CloseSessionRequest::new(session.to_owned());
        self.call(request).await.map(drop)
    }

    /// Opens a turn and waits for its end.
    pub(crate) async fn prompt(&self, session: &str, prompt: Prompt) -> Result<Ending, Fault> {
        let request = PromptRequest::new(session.to_owned(), prompt.blocks).meta(prompt.meta);
        let ended = self.call(request).await?;
        let stop = match ended.stop_reason {
            StopReason::EndTurn => Stop::EndTurn,
            StopReason::MaxTokens => Stop::MaxTokens,
            StopReason::MaxTurnRequests => Stop::MaxTurnRequests,
            StopReason::Refusal => Stop::Refusal,
            StopReason::Cancelled => Stop::Cancelled,
            _ => Stop::Other,
        };
        let meta = ended.meta;
        Ok(Ending { stop, meta })
    }

    /// Asks the agent to end its turn.
    pub(crate) fn cancel(&self, session: &str) {
        // Fails only when the agent is gone, and then the turn has ended.
        let _ = self
            .0
            .send_notification(CancelNotification::new(session.to_owned()));
    }

    async fn call<R>(&self, request: R) -> Result<R::Response, Fault>
    where
        R: JsonRpcRequest,
    {
        let answer = self.0.send_request(request).block_task().await;
        answer.map_err(Fault::from)
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caller")
    }
}

impl Abilities {
    /// Whether another process of the agent can take a session up.
    pub(crate) const fn keeps_sessions(&self) -> bool {
        self.load || self.resume
    }
}

impl Fault {
    /// Whether the agent wants somebody to log in first.
    pub(crate) fn wants_login(&self) -> bool {
        self.code == i64::from(i32::from(ErrorCode::AuthRequired))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self {
            hung_up: is_incoming_transport_closed(&error) || is_connection_terminated(&error),
            code: i64::from(i32::from(error.code)),
            message: error.message,
            data: error.data,
        }
    }
}

fn offer(
    modes: Option<&impl Serialize>,
    options: Option<&[impl Serialize]>,
    meta: Option<Meta>,
    left_out: Vec<String>,
) -> Offer {
    Offer {
        modes: modes.and_then(value),
        options: options.map(|all| all.iter().filter_map(value).collect()),
        meta,
        left_out,
    }
}

/// Types of the protocol have a JSON form.
fn value(of: &impl Serialize) -> Option<Value> {
    serde_json::to_value(of).ok()
}

fn asked(request: AgentRequest) -> Asked {
    let params = serde_json::to_value(&request).unwrap_or_default();
    Asked {
        session: params["sessionId"].as_str().unwrap_or_default().to_owned(),
        method: request.method().to_owned(),
        params,
        ask: ask(request),
    }
}

fn ask(request: AgentRequest) -> Ask {
    match request {
        AgentRequest::RequestPermissionRequest(request) => permission(&request),
        AgentRequest::CreateElicitationRequest(request) => elicitation::read(request),
        AgentRequest::ReadTextFileRequest(request) => Ask::Read {
            path: request.path,
            line: request.line,
            limit: request.limit,
        },
        AgentRequest::WriteTextFileRequest(request) => Ask::Write {
            path: request.path,
            content: request.content,
        },
        AgentRequest::CreateTerminalRequest(request) => {
            let mut argv = vec![request.command];
            argv.extend(request.args);
            let env = request.env.into_iter();
            Ask::CreateTerminal {
                argv,
                env: env
                    .map(|variable| (variable.name, variable.value))
                    .collect(),
                cwd: request.cwd,
                output_bytes: request.output_byte_limit,
            }
        }
        AgentRequest::TerminalOutputRequest(request) => {
            Ask::TerminalOutput(request.terminal_id.to_string())
        }
        AgentRequest::WaitForTerminalExitRequest(request) => {
            Ask::TerminalExit(request.terminal_id.to_string())
        }
        AgentRequest::KillTerminalRequest(request) => {
            Ask::KillTerminal(request.terminal_id.to_string())
        }
        AgentRequest::ReleaseTerminalRequest(request) => {
            Ask::ReleaseTerminal(request.terminal_id.to_string())
        }
        other => Ask::Unknown(other.method().to_owned()),
    }
}

fn permission(request: &RequestPermissionRequest) -> Ask {
    let fields = &request.tool_call.fields;
    let title = fields.title.clone();
    let options = request.options.iter().map(|option| Choice {
        id: option.option_id.to_string(),
        name: option.name.clone(),
        kind: word(&option.kind).unwrap_or_default(),
    });
    Ask::Permission {
        title: title.unwrap_or_else(|| format!("tool call {}", request.tool_call.tool_call_id)),
        kind: fields.kind.as_ref().and_then(word),
        options: options.collect(),
        detail: serde_json::to_value(&request.tool_call).unwrap_or_default(),
    }
}

/// The word that a value of the protocol is written as.
fn word(value: &impl Serialize) -> Option<String> {
    let value = serde_json::to_value(value).ok()?;
    value.as_str().map(str::to_owned)
}

fn answered(answer: Result<Answer, Refusal>) -> Result<Value, Error> {
    let answer = answer.map_err(refused)?;
    let value = match answer {
        Answer::Chosen(None) => serde_json::to_value(RequestPermissionResponse::new(
            RequestPermissionOutcome::Cancelled,
        )),
        Answer::Chosen(Some(option)) => {
            let chosen = SelectedPermissionOutcome::new(option);
            let outcome = RequestPermissionOutcome::Selected(chosen);
            serde_json::to_value(RequestPermissionResponse::new(outcome))
        }
        Answer::Elicited(answer) => serde_json::to_value(elicitation::response(answer)),
        Answer::Text(text) => serde_json::to_value(ReadTextFileResponse::new(text)),
        Answer::Written => serde_json::to_value(WriteTextFileResponse::new()),
        Answer::Terminal(id) => serde_json::to_value(CreateTerminalResponse::new(id)),
        Answer::Output {
            text,
            truncated,
            exit,
        } => {
            let output = TerminalOutputResponse::new(text, truncated).exit_status(exit.map(status));
            serde_json::to_value(output)
        }
        Answer::Exited(exit) => {
            serde_json::to_value(WaitForTerminalExitResponse::new(status(exit)))
        }
        Answer::Killed => serde_json::to_value(KillTerminalResponse::new()),
        Answer::Released => serde_json::to_value(ReleaseTerminalResponse::new()),
        Answer::Passed(answer) => Ok(answer),
    };
    value.map_err(Error::into_internal_error)
}

fn status(exit: TerminalExit) -> TerminalExitStatus {
    TerminalExitStatus::new()
        .exit_code(exit.code)
        .signal(exit.signal)
}

fn refused(refusal: Refusal) -> Error {
    let (code, message) = match refusal {
        Refusal::Passed(fault) => {
            let code = i32::try_from(fault.code).unwrap_or(ErrorCode::InternalError.into());
            return Error::new(code, fault.message).data(fault.data);
        }
        Refusal::Invalid(message) => (ErrorCode::InvalidParams, message),
        Refusal::Missing(message) => (ErrorCode::ResourceNotFound, message),
        Refusal::Unserved(method) => {
            let message = format!("the bus does not serve `{method}`");
            (ErrorCode::MethodNotFound, message)
        }
        Refusal::Failed(message) => (ErrorCode::InternalError, message),
    };
    Error::new(code, message)
}

/// An error line for a request that is refused before the SDK sees it.
pub(crate) fn too_many_requests(id: &[u8]) -> String {
    let id: Value = serde_json::from_slice(id).unwrap_or_default();
    let error = json!({ "code": i32::from(ErrorCode::InternalError),
        "message": "too many requests wait for an answer; ask again later" });
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
}
