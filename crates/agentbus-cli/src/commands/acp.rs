//! `agentbus acp`: ACP on standard input and output.
//!
//! It is a pipe between the editor and `/acp` of a bus, so that there is one implementation of the
//! agent. A bus that runs is joined; without one the bus runs in this process, and other programs
//! can join it.
//!
//! What may surprise: the end of this program ends no session. The bus goes on with what was asked.

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use agentbus::protocol::jsonrpc::{MessageKind, scan};
use agentbus_acp::limits::LINE_BYTES;
use agentbus_server::RunningServer;
use agentbus_transport_ws::{Builder, WsTransport};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::json;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::join::{Joined, join};
use super::serve::{Beside, asked_to_stop};
use super::{Api, escaped};
use crate::args::{AcpArgs, Auth};
use crate::config::{Config, Guarded};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::telemetry::Telemetry;

/// Messages that wait to be written to the editor.
const OUTGOING: usize = 64;

/// Longest message of the bus: a line of an agent, and what is put around it.
const MESSAGE_BYTES_MAX: usize = 2 * LINE_BYTES;

/// What requests under way get to be answered when the editor has closed its side.
const END_GRACE: Duration = Duration::from_millis(500);

/// What the bus gets to hang up.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

pub(crate) async fn acp(
    asked: AcpArgs,
    config: Guarded<'_>,
    api: &Api,
    telemetry: &Telemetry,
    output: &Output,
) -> Result<(), Failure> {
    let joined = join(asked.embedded, &asked.serve, config, api, telemetry, output);
    match joined.await? {
        Joined::Running(tenant) => {
            let bus = WsTransport::builder(api.url(), "acp").token(api.token()?);
            connect(bus.tenant(tenant), asked.agent.as_deref()).await
        }
        Joined::Own(config, running, _log) => embedded(&asked, &config, *running).await,
    }
}

/// Serves the editor until it hangs up; the bus ends with it.
async fn embedded(
    asked: &AcpArgs,
    config: &Config,
    (server, beside): (RunningServer, Beside),
) -> Result<(), Failure> {
    let token = match config.auth {
        Auth::Off => None,
        Auth::Token => std::fs::read_to_string(server.data_dir().token_path()).ok(),
    };
    let token = token.map(|token| token.trim().to_owned());
    let bus = WsTransport::builder(&server.url(), "acp").token(token);
    let served = connect(bus, asked.agent.as_deref()).await;
    // Its editor has left, and nobody else is left for whom a turn could go on.
    beside.end_turns().await;
    server.shutdown().await;
    beside.end().await;
    served
}

async fn connect(bus: Builder, agent: Option<&str>) -> Result<(), Failure> {
    let path = match agent {
        Some(agent) => format!("/acp?agent={}", escaped(agent)),
        None => "/acp".to_owned(),
    };
    let (messages, sink) = bus
        .texts(&path, MESSAGE_BYTES_MAX)
        .await
        .map_err(agentbus::Error::from)?;
    let piped = pipe(tokio::io::stdin(), tokio::io::stdout(), messages, sink);
    tokio::select! {
        piped = piped => piped,
        () = asked_to_stop() => Ok(()),
    }
}

/// Passes lines to the bus and messages to the editor, until one of them hangs up.
async fn pipe(
    input: impl tokio::io::AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    messages: impl Stream<Item = io::Result<String>> + Unpin,
    sink: impl Sink<String, Error = io::Error> + Unpin,
) -> Result<(), Failure> {
    let (out, lines) = mpsc::channel(OUTGOING);
    let conversing = async move {
        let open = watch::Sender::new(0_usize);
        let mut hearing = pin!(hear(messages, &out, &open));
        tokio::select! {
            heard = &mut hearing => return heard,
            spoken = speak(input, sink, &out, &open) => spoken?,
        }
        // What the bus says before it hangs up.
        let _ = tokio::time::timeout(CLOSE_GRACE, hearing).await;
        Ok(())
    };
    let mut writing = pin!(write(lines, output));
    tokio::select! {
        ended = conversing => {
            // What was said last is still on its way.
            let _ = tokio::time::timeout(CLOSE_GRACE, writing).await;
            ended
        }
        // An editor that reads nothing any more has left.
        () = &mut writing => Ok(()),
    }
}

/// Passes the editor's lines on. Returns when it has closed its side and had its answers, or a
/// moment to get them.
async fn speak(
    input: impl tokio::io::AsyncRead + Unpin,
    mut sink: impl Sink<String, Error = io::Error> + Unpin,
    out: &mpsc::Sender<String>,
    open: &watch::Sender<usize>,
) -> Result<(), Failure> {
    let mut lines = FramedRead::new(input, LinesCodec::new_with_max_length(LINE_BYTES));
    loop {
        let line = match lines.next().await {
            Some(Ok(line)) => line,
            Some(Err(error)) => {
                let _ = out.send(unreadable(error)?).await;
                // The reader pauses after an error: this is not the end.
                let _ = lines.next().await;
                continue;
            }
            None => break,
        };
        if line.trim().is_empty() {
            continue;
        }
        if kind(&line) == Some(MessageKind::Request) {
            open.send_modify(|open| *open += 1);
        }
        sink.send(line).await.map_err(|error| gone(&error))?;
    }
    let answered = async { open.subscribe().wait_for(|open| *open == 0).await.is_ok() };
    let _ = tokio::time::timeout(END_GRACE, answered).await;
    // Fails when the bus has hung up already.
    let _ = sink.close().await;
    Ok(())
}

/// Passes the messages of the bus on.
async fn hear(
    mut messages: impl Stream<Item = io::Result<String>> + Unpin,
    out: &mpsc::Sender<String>,
    open: &watch::Sender<usize>,
) -> Result<(), Failure> {
    while let Some(message) = messages.next().await {
        let message = message.map_err(|error| gone(&error))?;
        if kind(&message) == Some(MessageKind::Response) {
            open.send_modify(|open| *open = open.saturating_sub(1));
        }
        // A line break in a message is white space, and would be two messages on a line each.
        let _ = out.send(message.replace('\n', " ")).await;
    }
    Err(gone(&"it was closed"))
}

async fn write(mut lines: mpsc::Receiver<String>, mut output: impl AsyncWrite + Unpin) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        if output.write_all(line.as_bytes()).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}

fn kind(message: &str) -> Option<MessageKind> {
    scan(message.as_bytes()).ok().map(|routing| routing.kind())
}

/// Answers a line that could not be read; nobody knows which request it was.
fn unreadable(error: LinesCodecError) -> Result<String, Failure> {
    let (code, sentence) = match error {
        LinesCodecError::MaxLineLengthExceeded => {
            (-32600, format!("a message has at most {LINE_BYTES} bytes"))
        }
        LinesCodecError::Io(error) if error.kind() == ErrorKind::InvalidData => {
            let sentence = "this line is no text; a message is one line of JSON in UTF-8";
            (-32700, sentence.to_owned())
        }
        LinesCodecError::Io(error) => {
            let text = format!("the editor cannot be read: {error}");
            return Err(Failure::unexpected(text));
        }
    };
    let error = json!({ "code": code, "message": sentence });
    Ok(json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string())
}

fn gone(why: &impl std::fmt::Display) -> Failure {
    let text = format!(
        "the connection to the bus broke ({why}); sessions are kept: start `agentbus serve` if it \
         does not run, and load them"
    );
    Failure::new(Exit::Unreachable, text)
}
