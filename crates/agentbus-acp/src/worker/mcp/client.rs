//! One connection to an MCP server.
//!
//! A server behind pipes is given and gives lines, none longer than a program's limit; what is no
//! message is skipped and logged. A call that nobody waits for any more is cancelled at the server.

use std::collections::HashMap;
use std::io;

use agentbus_process::{Stdin, Stdout};
use futures_util::{FutureExt, SinkExt, Stream, StreamExt, stream};
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::ServiceError;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CancelledNotificationParam, ClientJsonRpcMessage,
    ClientRequest, JsonObject, PaginatedRequestParams, ReadResourceRequestParams, RequestId,
    ResourceContents, ServerJsonRpcMessage, ServerResult,
};
use rmcp::service::{
    ClientInitializeError, Peer, PeerRequestOptions, RoleClient, RunningService, serve_client,
};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransportConfig, StreamableHttpError,
};
use rmcp::transport::{DynamicTransportError, StreamableHttpClientTransport};
use serde_json::Value;
use tokio_util::task::TaskTracker;

use super::person::Person;
use crate::worker::limits::{SERVER_GRACE, TOOL_TIMEOUT, TOOLS_MAX};
use crate::worker::lines::written;
use crate::worker::web;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    service: RunningService<RoleClient, Person>,
    /// Cancellations on their way; they end with the connection.
    cancelling: TaskTracker,
}

/// A tool, as far as anybody here cares.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) schema: Value,
}

/// What a resource holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    Text(String),
    /// So many bytes.
    Binary(usize),
}

/// What a tool said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// Content blocks of the protocol.
    pub(crate) content: Vec<Value>,
    pub(crate) structured: Option<Value>,
    pub(crate) failed: bool,
}

impl Connection {
    /// Opens a connection over the pipes of a program.
    pub(super) async fn over_pipes(
        stdin: Stdin,
        stdout: Stdout,
        person: Person,
    ) -> Result<Self, String> {
        let sink = Box::pin(written(stdin).with(|message: ClientJsonRpcMessage| {
            let line = serde_json::to_string(&message).map_err(io::Error::from);
            std::future::ready(line)
        }));
        let opening = serve_client(person, (sink, messages(stdout).boxed()));
        Self::open(opening.boxed().await)
    }

    /// Opens a connection over Streamable HTTP.
    pub(super) async fn over_http(
        url: &str,
        headers: HashMap<HeaderName, HeaderValue>,
        person: Person,
    ) -> Result<Self, String> {
        let client = web::client()?;
        let config_of = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(headers);
        let transport = StreamableHttpClientTransport::with_client(client, config_of);
        Self::open(serve_client(person, transport).await)
    }

    fn open(
        opened: Result<RunningService<RoleClient, Person>, ClientInitializeError>,
    ) -> Result<Self, String> {
        let service = opened.map_err(|error| match error {
            ClientInitializeError::TransportError { error, .. } => of_transport(&error),
            other => other.to_string(),
        })?;
        let cancelling = TaskTracker::new();
        Ok(Self {
            service,
            cancelling,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.service.is_closed() || self.service.peer().is_transport_closed()
    }

    /// Lists the tools, page by page, as many as a session may have.
    pub(super) async fn tools(&self) -> Result<Vec<Tool>, String> {
        let mut tools = Vec::new();
        let mut cursor = None;
        loop {
            let page = PaginatedRequestParams::default().with_cursor(cursor);
            let page = self.service.list_tools(Some(page)).await;
            let page = page.map_err(|error| in_words(&error))?;
            tools.extend(page.tools.into_iter().map(|tool| Tool {
                name: tool.name.into_owned(),
                description: tool.description.unwrap_or_default().into_owned(),
                schema: Value::Object((*tool.input_schema).clone()),
            }));
            cursor = page.next_cursor;
            if cursor.is_none() || tools.len() >= TOOLS_MAX {
                tools.truncate(TOOLS_MAX);
                return Ok(tools);
            }
        }
    }

    /// Calls a tool. Dropping the future cancels the call at the server.
    pub(super) async fn call(&self, name: &str, arguments: JsonObject) -> Result<Said, Trouble> {
        let params = CallToolRequestParams::new(name.to_owned()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let options = PeerRequestOptions::with_timeout(TOOL_TIMEOUT);
        let peer = self.service.peer();
        let handle = peer.send_cancellable_request(request, options).await;
        let handle = handle.map_err(|error| Trouble::of(&error))?;
        let mut guard = CancelOnDrop {
            call: Some((peer.clone(), handle.id.clone())),
            cancelling: &self.cancelling,
        };
        let answer = handle.await_response().await;
        guard.call = None;
        match answer.map_err(|error| Trouble::of(&error))? {
            ServerResult::CallToolResult(result) => Ok(Said {
                content: result
                    .content
                    .iter()
                    .map(serde_json::to_value)
                    .collect::<Result<_, _>>()
                    .map_err(|error| Trouble::Refused(error.to_string()))?,
                structured: result.structured_content,
                failed: result.is_error == Some(true),
            }),
            other => {
                let other = serde_json::to_string(&other).unwrap_or_default();
                let why = format!("it answered with what is no tool result: {other}");
                Err(Trouble::Refused(why))
            }
        }
    }

    /// Reads a resource.
    pub(super) async fn read(&self, uri: &str) -> Result<Held, String> {
        let params = ReadResourceRequestParams::new(uri);
        let read = self.service.read_resource(params).await;
        let mut text = String::new();
        let mut bytes = 0;
        for part in read.map_err(|error| in_words(&error))?.contents {
            match part {
                ResourceContents::TextResourceContents { text: more, .. } => text.push_str(&more),
                // Three bytes for each four characters of base64, padding aside.
                ResourceContents::BlobResourceContents { blob, .. } => {
                    bytes += blob.trim_end_matches('=').len() * 3 / 4;
                }
                _ => {}
            }
        }
        if bytes > 0 {
            return Ok(Held::Binary(bytes));
        }
        Ok(Held::Text(text))
    }

    /// Says goodbye.
    pub(super) async fn close(&mut self) {
        let _ = self.service.close_with_timeout(SERVER_GRACE).await;
        self.cancelling.close();
    }
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server says so, or did not answer in time.
    Refused(String),
    /// The connection failed.
    Lost(String),
}

impl Trouble {
    fn of(error: &ServiceError) -> Self {
        let words = in_words(error);
        match error {
            ServiceError::McpError(_) | ServiceError::Timeout { .. } => Self::Refused(words),
            _ => Self::Lost(words),
        }
    }
}

/// Words a failure for whoever called a tool.
fn in_words(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) => error.message.to_string(),
        ServiceError::Timeout { timeout } => {
            format!("it did not answer within {} s", timeout.as_secs())
        }
        ServiceError::TransportSend(error) => of_transport(error),
        other => other.to_string(),
    }
}

/// Words what went wrong underneath, without the names of types around it.
fn of_transport(error: &DynamicTransportError) -> String {
    let mut cause: &(dyn std::error::Error + 'static) = error.error.as_ref();
    loop {
        match cause.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            Some(StreamableHttpError::Client(error)) => return web::reason(error),
            Some(StreamableHttpError::AuthRequired(_)) => {
                return "it wants other credentials (401)".to_owned();
            }
            _ => {}
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return cause.to_string(),
        }
    }
}

/// Reads the messages of a program; its end, or a line past the limit, ends them.
fn messages(stdout: Stdout) -> impl Stream<Item = ServerJsonRpcMessage> + Send {
    stream::unfold(stdout.lines(), |mut lines| async move {
        loop {
            let line = match lines.next().await {
                Ok(line) => line?,
                Err(error) => {
                    tracing::warn!(%error, "an MCP server is given up");
                    return None;
                }
            };
            match serde_json::from_slice(&line) {
                Ok(message) => return Some((message, lines)),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(error) => tracing::warn!(%error, "an MCP server wrote what is no message"),
            }
        }
    })
}

/// Tells the server that nobody waits for a call, unless its answer came.
struct CancelOnDrop<'a> {
    call: Option<(Peer<RoleClient>, RequestId)>,
    cancelling: &'a TaskTracker,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some((peer, id)) = self.call.take() {
            let reason = Some("the turn was cancelled".to_owned());
            let params = CancelledNotificationParam::new(Some(id), reason);
            self.cancelling.spawn(async move {
                // A server that is gone needs no telling.
                let _ = peer.notify_cancelled(params).await;
            });
        }
    }
}
