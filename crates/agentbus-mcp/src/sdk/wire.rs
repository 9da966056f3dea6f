//! MCP over anything that carries messages in both directions: lines, or the two halves of the
//! older HTTP transport. Such a connection is one session.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use agentbus::protocol::TraceParent;
use futures_util::{Sink, Stream};
use rmcp::model::{ClientJsonRpcMessage, GetExtensions, ServerJsonRpcMessage};
use rmcp::service::serve_server_with_ct;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, PollSendError, PollSender};

use super::handler::{Handler, Shared};
use crate::{Fault, Visitor, limits};

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// It is no message of the protocol.
    #[error("{0}")]
    Malformed(String),
    /// The session has ended.
    #[error("the session has ended; open a new one")]
    Ended,
}

/// How a message came that was posted to a session.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    /// The session.
    pub(crate) session: String,
    /// The span of the HTTP request.
    pub(crate) trace: Option<TraceParent>,
}

/// The sending half of a client's connection. Cloning gives another handle.
#[derive(Debug, Clone)]
pub(crate) struct Incoming(mpsc::Sender<ClientJsonRpcMessage>);

impl Incoming {
    /// Hands a message in; waits while the session has enough of them.
    pub(crate) async fn send(&self, message: &[u8], posted: Posted) -> Result<(), PipeError> {
        let mut message: ClientJsonRpcMessage = serde_json::from_slice(message)
            .map_err(|error| PipeError::Malformed(error.to_string()))?;
        if let ClientJsonRpcMessage::Request(request) = &mut message {
            request.request.extensions_mut().insert(posted);
        }
        self.0.send(message).await.map_err(|_| PipeError::Ended)
    }
}

/// The receiving half of a client's connection: one message each, as JSON.
#[derive(Debug)]
pub struct Pipe {
    outgoing: mpsc::Receiver<ServerJsonRpcMessage>,
    /// Ends the session with the reader.
    _ends: tokio_util::sync::DropGuard,
}

impl Pipe {
    /// Opens a session for the visitor. The future serves it, and ends when the pipe is dropped.
    pub(crate) fn open(
        shared: Arc<Shared>,
        visitor: Visitor,
        hang_up: &CancellationToken,
    ) -> (Self, Incoming, impl Future<Output = ()> + Send + 'static) {
        let (to_session, from_client) = mpsc::channel(limits::PIPE);
        let (to_client, outgoing) = mpsc::channel(limits::PIPE);
        let ended = hang_up.child_token();
        let pipe = Self {
            outgoing,
            _ends: ended.clone().drop_guard(),
        };
        let transport = (Outgoing(PollSender::new(to_client)), Messages(from_client));
        let handler = Handler::new(shared, visitor);
        let serving = async move {
            match serve_server_with_ct(handler, transport, ended).await {
                Ok(session) => {
                    let _ = session.waiting().await;
                }
                Err(error) => tracing::debug!(%error, "a session was not opened"),
            }
        };
        (pipe, Incoming(to_session), serving)
    }

    /// The next message for the client; none when the session has ended.
    pub async fn next(&mut self) -> Option<String> {
        let message = self.outgoing.recv().await?;
        // What the SDK has made can be written.
        serde_json::to_string(&message).ok()
    }
}

/// What a session reads.
struct Messages(mpsc::Receiver<ClientJsonRpcMessage>);

impl Stream for Messages {
    type Item = ClientJsonRpcMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// What a session writes. A client that does not read holds its own session up, and nobody else's.
struct Outgoing(PollSender<ServerJsonRpcMessage>);

impl Sink<ServerJsonRpcMessage> for Outgoing {
    type Error = PollSendError<ServerJsonRpcMessage>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_ready(cx)
    }

    fn start_send(
        mut self: Pin<&mut Self>,
        message: ServerJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        Pin::new(&mut self.0).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// Serves one client over lines until it hangs up, or until told to.
pub(crate) async fn serve_lines<R, W>(
    shared: Arc<Shared>,
    visitor: Visitor,
    (reader, writer): (R, W),
    hang_up: CancellationToken,
) -> Result<(), Fault>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let handler = Handler::new(shared, visitor);
    match serve_server_with_ct(handler, (reader, writer), hang_up).await {
        Ok(session) => session.waiting().await.map(drop).map_err(Fault::failed),
        // A client that leaves before it has said anything has done nothing wrong.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(Fault::failed(error)),
    }
}
