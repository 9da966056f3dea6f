//! The gateway: a catalogue, and the ways to reach it.

use std::sync::Arc;
use std::time::Duration;

use agentbus::Bus;
use agentbus_chat::{Chat, ChatError};
use agentbus_decisions::Board;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pipes::Pipes;
use crate::sdk::{self, HttpService, Running, Seal, Sessions, Shared};
use crate::tools::{self, Services};
use crate::{Catalog, CatalogError, Fault, Profile, Uploads, Visitor, limits};

/// What every client is told before it does anything.
const INSTRUCTIONS: &str = "\
AgentBus connects agents with each other and with people. Join a thread with `bus_connect`: it \
registers you, returns what was said, and gives you `agent_id`, `token`, `current_seq` and \
`reply_token`. Post with `msg_post`, then listen with `msg_wait`, which returns when somebody \
answers and gives you the next `reply_token`. Pass `agent_id` and `token` to the tools that take \
them. `bus_tools` describes the tools that are not listed.";

/// What the gateway is told.
#[derive(Debug, Clone)]
pub struct McpConfig {
    /// What is offered beside the tools of the bus: add to it before the start, or at any time.
    pub catalog: Catalog,
    /// The language that agents are asked to prefer, unless their connection names another.
    pub language: String,
    /// The address that clients are told.
    pub endpoint: String,
    /// Which tools are listed for a connection that does not say.
    pub profile: Profile,
    /// How long a call of an agent may take.
    pub invoke_timeout: Duration,
    /// Where decisions wait for a person; without one there are no tools for them.
    pub board: Option<Board>,
    /// Where uploaded images are read; without it they are named only.
    pub uploads: Option<Uploads>,
}

impl Default for McpConfig {
    fn default() -> Self {
        Self {
            catalog: Catalog::new(),
            language: "English".to_owned(),
            endpoint: String::new(),
            profile: Profile::Core,
            invoke_timeout: agentbus::limits::INVOKE_TIMEOUT,
            board: None,
            uploads: None,
        }
    }
}

/// What a gateway offers, and how many have a session with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayFigures {
    /// Tools of the catalogue, listed or not.
    pub tools: usize,
    /// Prompts of the catalogue.
    pub prompts: usize,
    /// Resources of the catalogue and templates of such.
    pub resources: usize,
    /// Sessions over Streamable HTTP. Clients of the newest revision have none.
    pub sessions: usize,
    /// Sessions over the older HTTP transport, each with its stream.
    pub pipes: usize,
}

/// Translates between MCP and the bus. Cloning gives another handle to the same gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    services: Arc<Services>,
    sessions: Sessions,
    pipes: Pipes,
    tasks: TaskTracker,
    /// Fires when no call may wait any longer.
    stopping: CancellationToken,
    /// Fires when connections end.
    hang_up: CancellationToken,
}

impl Gateway {
    /// A gateway to conversations and a bus.
    ///
    /// # Errors
    /// Fails when the catalogue has an entry of a name that the bus's own tools need.
    pub fn new(config: McpConfig, chat: Chat, bus: Bus) -> Result<Self, CatalogError> {
        let stopping = CancellationToken::new();
        let spans = bus.spans();
        let services = Arc::new(Services::new(&config, chat, bus));
        tools::install(&config.catalog, &services)?;
        let shared = Arc::new(Shared {
            catalog: config.catalog,
            instructions: INSTRUCTIONS.to_owned(),
            board: config.board,
            seal: Seal::new(),
            stopping: stopping.clone(),
            running: Running::default(),
            spans,
        });
        Ok(Self {
            shared,
            services,
            sessions: Sessions::new(),
            pipes: Pipes::default(),
            tasks: TaskTracker::new(),
            stopping,
            hang_up: CancellationToken::new(),
        })
    }

    /// The Streamable HTTP transport.
    #[must_use]
    pub fn http(&self) -> HttpService {
        HttpService::new(
            Arc::clone(&self.shared),
            self.sessions.clone(),
            self.hang_up.clone(),
        )
    }

    /// The older HTTP transport, whose halves the host carries.
    #[must_use]
    pub const fn pipes(&self) -> &Pipes {
        &self.pipes
    }

    /// Opens a session of the older HTTP transport: its id, and what to send to the client.
    ///
    /// # Errors
    /// Fails when there are too many of them.
    pub fn open_pipe(&self, visitor: Visitor) -> Result<(String, crate::Pipe), Fault> {
        let shared = Arc::clone(&self.shared);
        let principal = visitor.principal.clone();
        let (pipe, incoming, serving) = sdk::Pipe::open(shared, visitor, &self.hang_up);
        let (id, entry) = self.pipes.add(principal, incoming)?;
        self.tasks.spawn(async move {
            // Owned by the task, so that the id is free when the session is over.
            let _entry = entry;
            serving.await;
        });
        Ok((id, pipe))
    }

    /// Serves one client over lines, such as those of standard input and output, until it hangs up.
    ///
    /// # Errors
    /// Fails when the connection does.
    pub async fn serve_lines<R, W>(&self, visitor: Visitor, lines: (R, W)) -> Result<(), Fault>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Arc::clone(&self.shared);
        sdk::serve_lines(shared, visitor, lines, self.hang_up.clone()).await
    }

    /// Calls a tool for a client that has no connection of the protocol; its blocks as JSON. Nothing
    /// is remembered of the call, and its client is asked nothing.
    ///
    /// # Errors
    /// Fails when there is no such tool, when the arguments do not fit it, or when the tool does.
    pub async fn call(
        &self,
        visitor: Visitor,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, Fault> {
        sdk::call(&self.shared, visitor, tool, arguments).await
    }

    /// Answers a request of such a client: a list of tools, of resources or of prompts, or one of
    /// them.
    ///
    /// # Errors
    /// Fails when the request makes no sense, or when what it names fails.
    pub async fn request(
        &self,
        visitor: Visitor,
        method: &str,
        params: Map<String, Value>,
    ) -> Result<Value, Fault> {
        sdk::request(&self.shared, visitor, method, params).await
    }

    /// Runs what the gateway does beside calls, until it is closed: it tells listeners what has
    /// changed in conversations, and ends what nobody uses.
    ///
    /// # Errors
    /// Fails when the events of conversations cannot be followed.
    pub async fn run(&self) -> Result<(), ChatError> {
        let following = tools::follow(&self.services, &self.shared.catalog);
        tokio::select! {
            () = self.hang_up.cancelled() => Ok(()),
            followed = following => followed,
            () = self.sweep() => Ok(()),
        }
    }

    async fn sweep(&self) {
        loop {
            tokio::time::sleep(limits::SWEEP).await;
            self.sessions.sweep().await;
            self.services.handles.sweep();
        }
    }

    /// Calls that are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.running.count()
    }

    /// What there is at the moment.
    #[must_use]
    pub fn figures(&self) -> GatewayFigures {
        let catalog = &self.shared.catalog;
        GatewayFigures {
            tools: catalog.tools().len(),
            prompts: catalog.prompts().len(),
            resources: catalog.resources().len(),
            sessions: self.sessions.count(),
            pipes: self.pipes.count(),
        }
    }

    /// Lets no call wait any longer; those that work finish.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.stopping.cancel();
        self.hang_up.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
