//! A client of the worker in the same process, which checks every frame both ways.

use agentbus_acp::worker::{self, EngineOptions, Options, WorkerError};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::frames::{Frames, From};

/// Longest that anything may take. Nothing waits this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Peer {
    reader: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: Option<WriteHalf<DuplexStream>>,
    pub(crate) frames: Frames,
    next: u64,
    answers: HashMap<u64, Value>,
    /// What the agent said beside answers, in order.
    pub(crate) said: Vec<Value>,
    /// The option to choose when asked for permission; none leaves the question open.
    pub(crate) choose: Option<&'static str>,
    /// What to answer when asked for facts; none leaves the question open.
    pub(crate) fill: Option<Value>,
    /// How long the agent may be silent.
    pub(crate) patience: Duration,
    pub(crate) stop: CancellationToken,
    pub(crate) served: JoinHandle<Result<(), WorkerError>>,
}

impl Peer {
    pub(crate) fn start(directory: &Path, engine: EngineOptions) -> Self {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (input, output) = tokio::io::split(theirs);
        let options = Options {
            engine,
            data_directory: directory.to_owned(),
        };
        let stop = CancellationToken::new();
        let served = tokio::spawn(worker::serve(options, input, output, stop.clone()));
        let (reader, writer) = tokio::io::split(ours);
        Self {
            reader: BufReader::new(reader).lines(),
            writer: Some(writer),
            frames: Frames::new(),
            next: 0,
            answers: HashMap::new(),
            said: Vec::new(),
            choose: Some("allow_once"),
            fill: None,
            patience: PATIENCE,
            stop,
            served,
        }
    }

    /// Writes a line without a look at it.
    pub(crate) async fn write(&mut self, line: &str) {
        self.write_piece(line.as_bytes()).await;
        self.write_piece(b"\n").await;
    }

    /// Writes a part of a line.
    pub(crate) async fn write_piece(&mut self, piece: &[u8]) {
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(piece).await.unwrap();
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        let line = frame.to_string();
        self.frames.check(From::Client, &line);
        self.write(&line).await;
    }

    pub(crate) async fn notify(&mut self, method: &str, params: Value) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params }))
            .await;
    }

    /// Sends a request; the answer is for [`Self::answer`].
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let id = self.next;
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .await;
        id
    }

    /// Reads one frame; none at the end.
    pub(crate) async fn read(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(self.patience, self.reader.next_line()).await;
        let line = line.expect("the agent is silent").unwrap()?;
        let frame = self.frames.check(From::Agent, &line);
        if frame["method"] == "session/request_permission"
            && let Some(option) = self.choose
        {
            let outcome = json!({ "outcome": { "outcome": "selected", "optionId": option } });
            self.send(json!({ "jsonrpc": "2.0", "id": frame["id"], "result": outcome }))
                .await;
        }
        if frame["method"] == "elicitation/create"
            && let Some(answer) = self.fill.clone()
        {
            self.send(json!({ "jsonrpc": "2.0", "id": frame["id"], "result": answer }))
                .await;
        }
        if frame.get("method").is_some() {
            self.said.push(frame.clone());
        }
        Some(frame)
    }

    /// Reads until a request is answered; answers to others are kept for who asks for them.
    pub(crate) async fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            let frame = self.read().await.expect("the agent hung up");
            if let (Some(id), None) = (frame["id"].as_u64(), frame.get("method")) {
                self.answers.insert(id, frame);
            }
        }
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params).await;
        self.answer(id).await
    }

    pub(crate) async fn initialize(&mut self) -> Value {
        self.initialize_with(json!({})).await
    }

    pub(crate) async fn initialize_with(&mut self, capabilities: Value) -> Value {
        let params = json!({ "protocolVersion": 1, "clientCapabilities": capabilities });
        self.call("initialize", params).await["result"].clone()
    }

    pub(crate) async fn session(&mut self) -> String {
        let params = json!({ "cwd": "/", "mcpServers": [] });
        let answer = self.call("session/new", params).await;
        answer["result"]["sessionId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn prompt(&mut self, session: &str, text: &str) -> Value {
        let prompt = json!([{ "type": "text", "text": text }]);
        let params = json!({ "sessionId": session, "prompt": prompt });
        self.call("session/prompt", params).await
    }

    pub(crate) async fn ask_prompt(&mut self, session: &str, text: &str) -> u64 {
        let prompt = json!([{ "type": "text", "text": text }]);
        let params = json!({ "sessionId": session, "prompt": prompt });
        self.ask("session/prompt", params).await
    }

    /// Takes the updates of a kind that were said so far.
    pub(crate) fn updates(&mut self, kind: &str) -> Vec<Value> {
        let said = std::mem::take(&mut self.said);
        let updates = said
            .into_iter()
            .map(|frame| frame["params"]["update"].clone());
        updates
            .filter(|update| kind.is_empty() || update["sessionUpdate"] == kind)
            .collect()
    }

    /// Takes the text that was said so far.
    pub(crate) fn text(&mut self) -> String {
        let chunks = self.updates("agent_message_chunk");
        let texts = chunks
            .iter()
            .map(|chunk| chunk["content"]["text"].as_str().unwrap());
        texts.collect()
    }

    /// Closes the input and waits for the end.
    pub(crate) async fn end(mut self) {
        let mut writer = self.writer.take().unwrap();
        writer.shutdown().await.unwrap();
        drop(writer);
        while self.read().await.is_some() {}
        self.served.await.unwrap().unwrap();
    }
}
