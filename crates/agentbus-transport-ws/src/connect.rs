//! How a connection begins.

use std::io;
use std::path::Path;
use std::time::Duration;

use agentbus_protocol::{Pattern, PatternError, SubjectSpace};
use agentbus_transport::TransportError;
use agentbus_transport::remote::amb::TOPICS_MAX;
use agentbus_transport::remote::hidden;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::carrier::Carrier;
use crate::credentials::Token;
use crate::listener::{self, Stranger};
use crate::transport::WsTransport;
use crate::wire::{self, ClientFrame, FRAME_BYTES_MAX, ServerFrame};
use crate::{credentials, transport::NAME};

/// Longest time from the first packet to the server's welcome.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The text frames of a WebSocket.
pub trait Texts: Stream<Item = io::Result<String>> + Send + Unpin {}

impl<T: Stream<Item = io::Result<String>> + Send + Unpin> Texts for T {}

/// Sets up a connection.
#[derive(Clone)]
#[must_use = "nothing is connected until `connect` is awaited"]
pub struct Builder {
    url: String,
    agent: String,
    token: Option<Token>,
    tenant: Option<String>,
}

// Not derived: the token must not end up in a log.
impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("url", &self.shown())
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(url: &str, agent: &str) -> Self {
        Self {
            url: url.to_owned(),
            agent: agent.to_owned(),
            token: credentials::token_for(url, None),
            tenant: None,
        }
    }

    /// Uses this token instead of the one found in the environment.
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token.map(Token::Given);
        self
    }

    /// Speaks for another tenant than that of the bus.
    pub fn tenant(mut self, tenant: Option<String>) -> Self {
        self.tenant = tenant;
        self
    }

    /// Connects and introduces itself.
    ///
    /// # Errors
    /// Fails with a sentence that says what to do when nobody listens, when the token is refused,
    /// or when the other side is no agentbus.
    pub async fn connect(self) -> Result<WsTransport, TransportError> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await;
        let silent = || failed(format!("{} did not answer within 10 s", self.shown()));
        opened.map_err(|_| silent())?
    }

    /// Opens a WebSocket at another path of the bus, for those who speak a protocol of their own in
    /// its text frames.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn texts(
        self,
        path: &str,
        bytes_max: usize,
    ) -> Result<
        (
            impl Texts,
            impl Sink<String, Error = io::Error> + Send + Unpin,
        ),
        TransportError,
    > {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, self.socket(path, bytes_max)).await;
        let silent = || failed(format!("{} did not answer within 10 s", self.shown()));
        let (sink, stream) = opened.map_err(|_| silent())??.split();
        let texts = stream.filter_map(|frame| {
            std::future::ready(match frame {
                Ok(Message::Text(text)) => Some(Ok(text.to_string())),
                Ok(_) => None,
                Err(error) => Some(Err(io::Error::other(error))),
            })
        });
        let sink = sink.sink_map_err(io::Error::other);
        let sink = sink.with(|text: String| std::future::ready(Ok(Message::text(text))));
        Ok((texts, sink))
    }

    async fn open(&self) -> Result<WsTransport, TransportError> {
        let mut socket = self.socket("/v1/ws", FRAME_BYTES_MAX).await?;
        let hello = ClientFrame::Hello {
            agent: self.agent.clone(),
        };
        let sent = socket.send(Message::text(wire::encode(&hello))).await;
        sent.map_err(|error| self.explain(error))?;
        let (carrier, subjects) = self.await_welcome(&mut socket).await?;
        Ok(WsTransport::start(socket, carrier, subjects))
    }

    async fn socket(&self, path: &str, bytes_max: usize) -> Result<Socket, TransportError> {
        let mut request = self
            .endpoint(path)
            .into_client_request()
            .map_err(|error| failed(format!("`{}` is no URL of a bus: {error}", self.shown())))?;
        if let Some(token) = &self.token {
            keep_from_strangers(token, request.uri())?;
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| refused("the token contains characters that no token has"))?;
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        if let Some(tenant) = &self.tenant {
            let tenant = HeaderValue::from_str(tenant).map_err(|_| {
                refused("the tenant contains characters that no header of a WebSocket can hold; name it in ASCII")
            })?;
            request.headers_mut().insert("x-tenant-id", tenant);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(bytes_max))
            .max_frame_size(Some(bytes_max));
        let connected =
            tokio_tungstenite::connect_async_with_config(request, Some(config), true).await;
        let (socket, _) = connected.map_err(|error| self.explain(error))?;
        Ok(socket)
    }

    /// Turns the base URL of a bus into its WebSocket's.
    fn endpoint(&self, path: &str) -> String {
        let base = self.url.trim_end_matches('/');
        let base = base
            .replacen("http://", "ws://", 1)
            .replacen("https://", "wss://", 1);
        format!("{base}{path}")
    }

    /// Waits for what the bus can do and which subjects are its own.
    async fn await_welcome(
        &self,
        socket: &mut Socket,
    ) -> Result<(Carrier, SubjectSpace), TransportError> {
        while let Some(frame) = socket.next().await {
            let Message::Text(text) = frame.map_err(|error| self.explain(error))? else {
                continue;
            };
            return match serde_json::from_str(&text) {
                Ok(ServerFrame::Welcome {
                    carrier,
                    prefix,
                    tenant,
                    topics,
                    ..
                }) => match space_of(&prefix, &tenant, &topics) {
                    Ok(subjects) => Ok((carrier, subjects)),
                    Err(error) => Err(failed(format!(
                        "{} has no subjects that a bus can have: {error}",
                        self.shown()
                    ))),
                },
                Ok(ServerFrame::Error { error, .. }) => Err(TransportError::Remote(error)),
                _ => Err(failed(format!(
                    "{} does not speak the protocol of a bus",
                    self.shown()
                ))),
            };
        }
        Err(failed(format!(
            "{} closed the connection at once",
            self.shown()
        )))
    }

    /// The URL as it may be shown.
    fn shown(&self) -> String {
        hidden(&self.url)
    }

    fn explain(&self, error: SocketError) -> TransportError {
        let url = self.shown();
        match error {
            SocketError::Io(error) => failed(format!(
                "nobody listens at {url} ({error}); start the bus with `agentbus serve`, or name another one with --url"
            )),
            SocketError::Http(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                refused(&credentials::refusal(&url, None))
            }
            SocketError::Http(answer) if answer.status() == StatusCode::FORBIDDEN => refused(
                &format!("{url} is not a name the bus goes by; see --allow-host"),
            ),
            SocketError::Http(answer) => failed(format!(
                "{url} answered with status {}; is that an agentbus?",
                answer.status().as_u16()
            )),
            other => failed(format!("{url}: {other}")),
        }
    }
}

/// The token that may be shown to the bus at a URL, for those who speak HTTP with it: that of the
/// environment, or that of the data directory, which is the user's unless one is named.
///
/// # Errors
/// Fails when the token is this machine's and the port belongs to another user of it.
pub fn token_to_show(
    url: &str,
    directory: Option<&Path>,
) -> Result<Option<String>, TransportError> {
    let Some(token) = credentials::token_for(url, directory) else {
        return Ok(None);
    };
    let uri: Uri = url
        .parse()
        .map_err(|_| failed(format!("{} is not a URL", hidden(url))))?;
    keep_from_strangers(&token, &uri)?;
    Ok(Some(token.expose().to_owned()))
}

/// Refuses to show this machine's token to another user who was first to open the bus's port.
fn keep_from_strangers(token: &Token, url: &Uri) -> Result<(), TransportError> {
    let beyond = |(_, port): (&str, &str)| port.parse::<u64>().is_ok_and(|port| port > 65_535);
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if authority.rsplit_once(':').is_some_and(beyond) {
        // Whoever reads the URL would take the usual port instead, and go to somebody else.
        return Err(refused("the URL names a port above 65535, which is none"));
    }
    let Token::Found(_) = token else {
        return Ok(());
    };
    let port = url.port_u16().unwrap_or(match url.scheme_str() {
        Some("wss") => 443,
        _ => 80,
    });
    match listener::stranger_on(port) {
        None => Ok(()),
        Some(Stranger { uid }) => Err(refused(&format!(
            "port {port} belongs to another user of this machine (uid {uid}), who is not shown your token; start your bus on another port with --listen, or set AGENTBUS_TOKEN if that bus is meant"
        ))),
    }
}

pub(crate) fn failed(reason: String) -> TransportError {
    TransportError::Carrier {
        transport: NAME,
        reason,
    }
}

/// The subjects that a welcome tells.
fn space_of(prefix: &str, tenant: &str, topics: &[String]) -> Result<SubjectSpace, PatternError> {
    // More than a bus can have would only slow whoever believes it.
    let topics = topics.iter().take(TOPICS_MAX);
    let topics: Result<Vec<_>, _> = topics.map(|topic| Pattern::parse(topic)).collect();
    let space = SubjectSpace::new(prefix, tenant)?;
    Ok(space.sharing(&topics?)?)
}

fn refused(reason: &str) -> TransportError {
    TransportError::Refused {
        transport: NAME,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot go on should say where"
    )]

    use super::*;

    #[test]
    fn a_bus_that_shares_too_much_is_believed_in_part() {
        let topics: Vec<_> = (0..1000).map(|n| format!("topic{n}")).collect();
        let space = space_of("acp.v1", "", &topics).unwrap();
        assert_eq!(space.topics().len(), TOPICS_MAX);
        let reaching = ["acp.v1.>".to_owned()];
        assert!(space_of("acp.v1", "", &reaching).is_err());
    }
}
