//! Passes messages between lines and a running bus.
//!
//! Messages are not read further than their headers need. A session that the bus has forgotten,
//! because it was restarted, is opened again with what the client said at its beginning, and the
//! client notices nothing.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::codec::FramedRead;
use tokio_util::task::AbortOnDropHandle;

use super::lines::{LINE_BYTES_MAX, Lines, Unread};
use super::wire::{Events, Message, header_value};
use crate::args::McpArgs;
use crate::commands::Api;
use crate::failure::Failure;

/// Longest time for writing what was answered when the client has hung up.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

/// Longest time for the requests that were under way when the client hung up.
const LAST_REQUESTS: std::time::Duration = std::time::Duration::from_secs(5);

/// Messages that wait to be written.
const OUTGOING: usize = 256;

/// Most requests under way; a client that asks more waits.
const REQUESTS_MAX: usize = 64;

/// Between two attempts to listen again.
const LISTEN_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The bridge. Cloning gives another handle.
#[derive(Clone)]
pub(super) struct Bridge {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    token: Option<HeaderValue>,
    tenant: Option<HeaderValue>,
    /// What to say when the bus does not take the token.
    refusal: Arc<str>,
    session: Arc<Mutex<Session>>,
}

/// What is known of the session, in the revisions that have one.
#[derive(Default)]
struct Session {
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// How the client opened it.
    opening: Option<String>,
}

/// What the bridge does beside reading.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<()>,
    /// By the id of the request.
    requests: HashMap<String, AbortHandle>,
    /// Never done, so nobody waits for it.
    listening: JoinSet<()>,
}

impl UnderWay {
    /// Forgets what is done, and waits until one more request may be under way. Tasks are counted
    /// and not ids, of which a client may use one twice.
    async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() >= REQUESTS_MAX {
            self.tasks.join_next().await;
        }
        self.requests.retain(|_, request| !request.is_finished());
    }

    /// Lets the requests come to their answers for a while: the calls were made, and a client that
    /// writes all it has and closes its end still reads.
    async fn finish(mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_REQUESTS, all).await;
        self.tasks.shutdown().await;
        self.listening.shutdown().await;
    }
}

/// A message that did not arrive, and why.
struct Lost(String);

impl Bridge {
    pub(super) fn new(api: &Api, asked: &McpArgs) -> Result<Self, Failure> {
        let (url, token) = (api.url(), api.token()?);
        let mut wishes = Vec::new();
        if let Some(profile) = asked.profile {
            wishes.push(format!("profile={}", profile.as_str()));
        }
        if let Some(language) = &asked.lang {
            wishes.push(format!("lang={}", crate::commands::escaped(language)));
        }
        let query = if wishes.is_empty() {
            String::new()
        } else {
            format!("?{}", wishes.join("&"))
        };
        let uri = format!("{url}/mcp{query}");
        let uri = uri
            .parse()
            .map_err(|_| Failure::usage(format!("{url} is not a URL")))?;
        let bearer = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}")));
        let token = bearer.transpose();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            uri,
            token: token
                .map_err(|_| Failure::usage("the token has characters that no token has"))?,
            tenant: None,
            refusal: api.refusal().into(),
            session: Arc::default(),
        })
    }

    /// Speaks for this tenant instead of that of the bus.
    pub(super) fn within(mut self, tenant: Option<&str>) -> Result<Self, Failure> {
        let tenant = tenant.map(|tenant| HeaderValue::from_bytes(tenant.as_bytes()));
        let tenant = tenant.transpose();
        self.tenant = tenant.map_err(|error| Failure::usage(format!("the tenant: {error}")))?;
        Ok(self)
    }

    /// Runs until the client hangs up.
    pub(super) async fn run<R, W>(&self, reader: R, writer: W) -> Result<(), Failure>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let mut under_way = UnderWay::default();
        let writing = AbortOnDropHandle::new(tokio::spawn(write(outgoing, writer)));
        let read = self.read(reader, &out, &mut under_way).await;
        under_way.finish().await;
        // What was answered still reaches the client.
        drop(out);
        let _ = tokio::time::timeout(LAST_WORDS, writing).await;
        self.hang_up().await;
        read
    }

    /// Handles line after line. One that is no message is answered, and the next one is read: what
    /// else the client has asked for must not be lost with it.
    async fn read(
        &self,
        reader: impl AsyncRead + Unpin,
        out: &mpsc::Sender<String>,
        under_way: &mut UnderWay,
    ) -> Result<(), Failure> {
        let mut lines = FramedRead::new(reader, Lines::new());
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| {
                Failure::unexpected(format!("standard input cannot be read: {error}"))
            })?;
            let read = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => Message::read(line).ok_or(Unread::NotJson),
                Err(unread) => Err(unread),
            };
            let message = match read {
                Ok(message) => message,
                Err(unread) => {
                    let _ = out.send(unread.answer()).await;
                    continue;
                }
            };
            under_way.make_room().await;
            self.handle(message, out, under_way).await;
        }
        Ok(())
    }

    async fn handle(&self, message: Message, out: &mpsc::Sender<String>, under_way: &mut UnderWay) {
        if let Some(given_up) = message.cancels() {
            let request = under_way.requests.remove(&given_up.to_string());
            // Without a session, the end of the connection is what cancels.
            if self.session.lock().await.id.is_none() {
                request.iter().for_each(AbortHandle::abort);
                return;
            }
        }
        let Some(id) = message.request_id().map(ToString::to_string) else {
            let listens = message.method() == "notifications/initialized";
            // In order: what follows may rely on it.
            self.clone().pass(message, out.clone()).await;
            if listens {
                let listening = self.clone().listen(out.clone());
                under_way.listening.spawn(listening);
            }
            return;
        };
        if let Some(error) = message.misnumbered() {
            let _ = out.send(error).await;
            return;
        }
        if message.method() == "initialize" {
            self.clone().pass(message, out.clone()).await;
            return;
        }
        let request = self.clone().pass(message, out.clone());
        let request = under_way.tasks.spawn(request);
        under_way.requests.insert(id, request);
    }

    /// Passes a message on, and what comes back.
    async fn pass(self, message: Message, out: mpsc::Sender<String>) {
        let passed = match self.send(&message).await {
            Ok(response) if response.status() == StatusCode::NOT_FOUND && self.reopen().await => {
                match self.send(&message).await {
                    Ok(response) => self.answer(&message, response, &out).await,
                    Err(lost) => Err(lost),
                }
            }
            Ok(response) => self.answer(&message, response, &out).await,
            Err(lost) => Err(lost),
        };
        if let Err(Lost(text)) = passed
            && let Some(error) = message.lost(&text)
        {
            let _ = out.send(error).await;
        }
    }

    async fn send(&self, message: &Message) -> Result<Response<Incoming>, Lost> {
        let mut request = self.request(Method::POST, message.line.clone());
        let headers = request.headers_mut();
        let mut set = |name, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        if message.is_modern() {
            set(
                "mcp-protocol-version",
                message.version().unwrap_or_default(),
            );
            set("mcp-method", message.method());
            if let Some(subject) = message.subject() {
                set("mcp-name", &header_value(subject));
            }
        } else if message.method() != "initialize" {
            self.name_session(&mut request).await;
        }
        self.exchange(request).await
    }

    fn request(&self, method: Method, body: String) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert("content-type", json);
        let either = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert("accept", either);
        if let Some(token) = &self.token {
            headers.insert("authorization", token.clone());
        }
        if let Some(tenant) = &self.tenant {
            headers.insert("x-tenant-id", tenant.clone());
        }
        request
    }

    async fn name_session(&self, request: &mut Request<Full<Bytes>>) {
        let session = self.session.lock().await;
        let named = [
            ("mcp-session-id", &session.id),
            ("mcp-protocol-version", &session.version),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                request.headers_mut().insert(name, value.clone());
            }
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Lost> {
        self.client.request(request).await.map_err(|error| {
            Lost(format!(
                "the bus at {} does not answer ({error}); start it with `agentbus serve`",
                self.uri
                    .authority()
                    .map_or("", |authority| authority.as_str())
            ))
        })
    }

    /// Writes what the bus answers.
    async fn answer(
        &self,
        message: &Message,
        response: Response<Incoming>,
        out: &mpsc::Sender<String>,
    ) -> Result<(), Lost> {
        let opens = message.method() == "initialize";
        // One that is refused opens nothing, and what was open stays so.
        let opened = response.headers().get("mcp-session-id").cloned();
        if opens && let Some(id) = opened {
            let mut session = self.session.lock().await;
            session.id = Some(id);
            session.opening = Some(message.line.clone());
        }
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(Lost(self.refusal.to_string()));
        }
        let kind = response.headers().get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            return self.stream(response, out, opens).await;
        }
        let is_json = kind.starts_with("application/json");
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| Lost(error.to_string()))?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        let is_message = is_json && text.contains("\"jsonrpc\"");
        if is_message {
            self.note_version(&text, opens).await;
            let _ = out.send(text.into_owned()).await;
        } else if !status.is_success() {
            let text = text.chars().take(500).collect::<String>();
            return Err(Lost(format!("the bus answered with {status}: {text}")));
        }
        Ok(())
    }

    async fn stream(
        &self,
        response: Response<Incoming>,
        out: &mpsc::Sender<String>,
        opens: bool,
    ) -> Result<(), Lost> {
        let mut body = response.into_body();
        let mut events = Events::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Lost(format!("the answer broke off: {error}")))?;
            let Some(bytes) = frame.data_ref() else {
                continue;
            };
            for message in events.feed(bytes) {
                self.note_version(&message, opens).await;
                if out.send(message).await.is_err() {
                    return Ok(());
                }
            }
            if events.held() > LINE_BYTES_MAX {
                return Err(Lost("the answer is longer than a line may be".to_owned()));
            }
        }
        Ok(())
    }

    /// Remembers what was agreed on: later requests name it.
    async fn note_version(&self, answer: &str, opens: bool) {
        if !opens {
            return;
        }
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        let version = answer["result"]["protocolVersion"].as_str();
        if let Some(Ok(version)) = version.map(HeaderValue::from_str) {
            self.session.lock().await.version = Some(version);
        }
    }

    /// Opens a forgotten session again; whether there was one, and it could be.
    async fn reopen(&self) -> bool {
        let opening = {
            let session = self.session.lock().await;
            session.opening.clone().filter(|_| session.id.is_some())
        };
        let Some(message) = opening.and_then(Message::read) else {
            return false;
        };
        let Ok(response) = self.send(&message).await else {
            return false;
        };
        let id = response.headers().get("mcp-session-id").cloned();
        let opened = response.status().is_success() && id.is_some();
        // The answer is the one that the client has had already.
        let read = response.into_body().collect().await.is_ok();
        if opened && read {
            self.session.lock().await.id = id;
            let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
            if let Some(ready) = Message::read(ready.to_owned()) {
                return self.send(&ready).await.is_ok();
            }
        }
        false
    }

    /// Listens to what the bus says unasked, in the revisions that have sessions.
    async fn listen(self, out: mpsc::Sender<String>) {
        loop {
            if self.session.lock().await.id.is_none() {
                return;
            }
            let mut request = self.request(Method::GET, String::new());
            request.headers_mut().remove("content-type");
            self.name_session(&mut request).await;
            match self.exchange(request).await {
                Ok(response) if response.status().is_success() => {
                    let _ = self.stream(response, &out, false).await;
                }
                Ok(response) if response.status() == StatusCode::METHOD_NOT_ALLOWED => return,
                _ => {}
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    /// Ends the session, so that the bus need not wait until it is idle.
    async fn hang_up(&self) {
        if self.session.lock().await.id.is_none() {
            return;
        }
        let mut request = self.request(Method::DELETE, String::new());
        self.name_session(&mut request).await;
        let _ = tokio::time::timeout(LISTEN_AGAIN, self.exchange(request)).await;
    }
}

/// Writes messages, a line each.
async fn write(mut outgoing: mpsc::Receiver<String>, mut writer: impl AsyncWrite + Unpin) {
    while let Some(message) = outgoing.recv().await {
        let line = message.replace(['\r', '\n'], " ") + "\n";
        if writer.write_all(line.as_bytes()).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_is_forgotten_before_there_is_no_room() {
        let mut under_way = UnderWay::default();
        for id in 0..3 {
            let request = under_way.tasks.spawn(async {});
            under_way.requests.insert(id.to_string(), request);
        }
        while under_way
            .requests
            .values()
            .any(|request| !request.is_finished())
        {
            tokio::task::yield_now().await;
        }
        under_way.make_room().await;
        assert_eq!((under_way.tasks.len(), under_way.requests.len()), (0, 0));
    }
}
