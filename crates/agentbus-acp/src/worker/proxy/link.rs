//! The connection to an ACP agent behind a bus: opened when it is needed, and again when it broke.
//!
//! One prompt runs at a time, and whoever runs it reads the connection, so that what the agent says
//! meanwhile can only belong to that prompt.

use std::io;
use std::path::PathBuf;

use agentbus_process::Lines;
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::worker::limits::{ANSWER_BYTES_MAX, CANCEL_WAIT_MAX, CONNECT_TIMEOUT, LINE_BYTES};

/// Where the bus is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A host and a port.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Why a prompt has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the bus cannot be reached at {0}: {1}; is `agentbus stdio` running there?")]
    Unreachable(String, io::Error),
    #[error("the connection to the bus broke: {0}; call the tool again")]
    Broken(String),
    #[error("the agent refused {0}: {1}")]
    Refused(&'static str, String),
    #[error("the agent did not answer {0} in time")]
    Silent(&'static str),
}

/// An open connection with a session of its own.
pub(super) struct Link {
    lines: Lines<Box<dyn AsyncRead + Send + Unpin>>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    agent: Option<String>,
    /// The routing id: one worker for all that we say.
    routing: String,
    allow: bool,
    next: u64,
    session: Value,
    /// What the agent says of itself.
    pub(super) info: Value,
}

impl Link {
    /// Opens a connection, introduces itself and begins a session.
    pub(super) async fn open(
        address: &Address,
        agent: Option<String>,
        allow: bool,
    ) -> Result<Self, LinkError> {
        let (reader, writer) = connect(address).await?;
        let mut link = Self {
            lines: Lines::new(reader, LINE_BYTES),
            writer,
            agent,
            routing: format!("proxy-{}", uuid::Uuid::new_v4()),
            allow,
            next: 0,
            session: Value::Null,
            info: Value::Null,
        };
        let us = json!({ "name": "agentbus-mcp-proxy", "version": env!("CARGO_PKG_VERSION") });
        let hello = json!({ "protocolVersion": 1, "clientCapabilities": {}, "clientInfo": us });
        let said = link.setup("initialize", hello).await?;
        link.info = said["agentInfo"].clone();
        let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let new = json!({ "cwd": directory, "mcpServers": [] });
        link.session = link.setup("session/new", new).await?["sessionId"].clone();
        Ok(link)
    }

    /// Whether the other end is still there, as far as can be seen without waiting.
    pub(super) fn is_open(&mut self) -> bool {
        loop {
            match self.lines.next().now_or_never() {
                // What was said after the last prompt belongs to nobody.
                Some(Ok(Some(_))) => {}
                Some(_) => return false,
                None => return true,
            }
        }
    }

    /// Runs a prompt; returns its stop reason and adds the agent's words to `text`.
    pub(super) async fn prompt(
        &mut self,
        prompt: &str,
        text: &mut String,
        cancelled: &CancellationToken,
    ) -> Result<String, LinkError> {
        let params =
            json!({ "sessionId": self.session, "prompt": [{ "type": "text", "text": prompt }] });
        let id = self.ask("session/prompt", params).await?;
        let answer = tokio::select! {
            answer = self.answer(id, text) => answer?,
            () = cancelled.cancelled() => {
                let cancel = json!({ "sessionId": self.session });
                self.send(json!({ "method": "session/cancel", "params": cancel })).await?;
                let last = timeout(CANCEL_WAIT_MAX, self.answer(id, text)).await;
                last.map_err(|_| LinkError::Silent("session/cancel"))??
            }
        };
        let result = result("session/prompt", answer)?;
        Ok(result["stopReason"].as_str().unwrap_or_default().to_owned())
    }

    async fn setup(&mut self, method: &'static str, params: Value) -> Result<Value, LinkError> {
        let id = self.ask(method, params).await?;
        let mut unheard = String::new();
        let answer = timeout(CONNECT_TIMEOUT, self.answer(id, &mut unheard)).await;
        result(method, answer.map_err(|_| LinkError::Silent(method))??)
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<u64, LinkError> {
        self.next += 1;
        let id = self.next;
        self.send(json!({ "id": id, "method": method, "params": params }))
            .await?;
        Ok(id)
    }

    async fn send(&mut self, mut message: Value) -> Result<(), LinkError> {
        message["jsonrpc"] = "2.0".into();
        message["sessionId"] = self.routing.clone().into();
        if let Some(agent) = &self.agent {
            message["agentId"] = agent.clone().into();
        }
        let line = format!("{message}\n");
        let sent = self.writer.write_all(line.as_bytes()).await;
        sent.map_err(|error| LinkError::Broken(error.to_string()))
    }

    /// Reads until a request is answered, and answers what the agent asks meanwhile. Cancel safe:
    /// a line is taken whole or not at all.
    async fn answer(&mut self, id: u64, text: &mut String) -> Result<Value, LinkError> {
        loop {
            let line = self.lines.next().await;
            let line = line.map_err(|error| LinkError::Broken(error.to_string()))?;
            let line = line.ok_or_else(|| LinkError::Broken("the bus hung up".to_owned()))?;
            let Ok(frame) = serde_json::from_slice::<Value>(&line) else {
                continue;
            };
            match (frame["method"].as_str(), frame.get("id")) {
                (None, Some(answered)) if *answered == id => return Ok(frame),
                (Some(method), Some(asked)) => {
                    let answer = self.decided(method, asked, &frame["params"]);
                    self.send(answer).await?;
                }
                (Some("session/update"), None) => self.hear(&frame["params"], text),
                _ => {}
            }
        }
    }

    fn hear(&self, params: &Value, text: &mut String) {
        let update = &params["update"];
        if params["sessionId"] == self.session
            && update["sessionUpdate"] == "agent_message_chunk"
            && let Some(more) = update["content"]["text"].as_str()
            && text.len() + more.len() <= ANSWER_BYTES_MAX
        {
            text.push_str(more);
        }
    }

    /// Answers a question of the agent: nobody sits behind an MCP tool who could.
    fn decided(&self, method: &str, id: &Value, params: &Value) -> Value {
        if method != "session/request_permission" {
            let sentence = format!("Unknown method: {method}");
            return json!({ "id": id, "error": { "code": -32601, "message": sentence } });
        }
        let wanted = if self.allow {
            "allow_once"
        } else {
            "reject_once"
        };
        let mut options = params["options"].as_array().into_iter().flatten();
        let outcome = match options.find(|option| option["kind"] == wanted) {
            Some(option) => json!({ "outcome": "selected", "optionId": option["optionId"] }),
            None => json!({ "outcome": "cancelled" }),
        };
        json!({ "id": id, "result": { "outcome": outcome } })
    }
}

type Halves = (
    Box<dyn AsyncRead + Send + Unpin>,
    Box<dyn AsyncWrite + Send + Unpin>,
);

async fn connect(address: &Address) -> Result<Halves, LinkError> {
    match address {
        Address::Tcp(at) => {
            let connected = TcpStream::connect(at).await;
            let stream = connected.map_err(|error| LinkError::Unreachable(at.clone(), error))?;
            let (reader, writer) = stream.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
        Address::Unix(at) => {
            let connected = UnixStream::connect(at).await;
            let place = at.display().to_string();
            let stream = connected.map_err(|error| LinkError::Unreachable(place, error))?;
            let (reader, writer) = stream.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
    }
}

fn result(method: &'static str, mut answer: Value) -> Result<Value, LinkError> {
    if let Some(error) = answer.get("error") {
        let message = error["message"].as_str().unwrap_or("without a word");
        return Err(LinkError::Refused(method, message.to_owned()));
    }
    Ok(answer["result"].take())
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// An agent that answers so many requests and then says nothing more.
    async fn agent(listener: UnixListener, answers: usize) {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut lines = Lines::new(reader, LINE_BYTES);
        for _ in 0..answers {
            let line = lines.next().await.unwrap().unwrap();
            let asked: Value = serde_json::from_slice(&line).unwrap();
            let result = json!({ "sessionId": "s", "agentInfo": {} });
            let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result });
            let line = format!("{answer}\n");
            writer.write_all(line.as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_falls_silent_is_given_up_and_named() {
        for (answers, what) in [(0, "initialize"), (1, "session/new"), (2, "session/cancel")] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("s");
            let listener = UnixListener::bind(&path).unwrap();
            let agent = tokio::spawn(agent(listener, answers));
            let asked = async {
                let mut link = Link::open(&Address::Unix(path), None, false).await?;
                let cancelled = CancellationToken::new();
                cancelled.cancel();
                link.prompt("hello", &mut String::new(), &cancelled).await
            };
            let error = asked.await.unwrap_err().to_string();
            assert_eq!(error, format!("the agent did not answer {what} in time"));
            agent.abort();
        }
    }
}
