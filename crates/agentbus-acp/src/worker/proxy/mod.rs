//! An MCP server on a byte stream whose one tool prompts an ACP agent behind a bus.
//!
//! Calls run one after the other in one ACP session, so that the conversation goes on from call to
//! call. A connection that broke is opened again by the next call; the call it broke under fails and
//! says so. An agent's error is an error of the tool, with the text that came before it.

mod link;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::link::Address;
use self::link::{Link, LinkError};
use super::limits::{HELLO_WAIT_MAX, PROXY_ANSWERS, PROXY_CALLS_MAX};
use super::lines;

/// Revisions of MCP that differ in nothing that this server says.
const REVISIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Which agent is prompted, and how it is reached.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// Where the bus is.
    pub address: Address,
    /// The agent, for a registry launcher behind the bus.
    pub agent: Option<String>,
    /// Whether tools of the agent may run; nobody can be asked.
    pub allow: bool,
}

/// Serves an MCP client until its input ends or `stop` fires.
///
/// # Errors
///
/// The failure of the input or the output.
pub async fn serve(
    options: ProxyOptions,
    input: impl AsyncRead + Unpin + Send + 'static,
    output: impl AsyncWrite + Send + 'static,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut incoming = Box::pin(lines::read(input));
    let mut outgoing = Box::pin(lines::written(output));
    let (answers, mut answered) = mpsc::channel(PROXY_ANSWERS);
    let over = stop.child_token();
    let _ends = over.clone().drop_guard();
    let proxy = Proxy(Arc::new(Inner {
        options,
        link: tokio::sync::Mutex::new(None),
        calls: Mutex::default(),
        over,
    }));
    let tasks = TaskTracker::new();
    let mut reading = true;
    while reading || !tasks.is_empty() {
        tokio::select! {
            line = incoming.next(), if reading => match line {
                None => {
                    reading = false;
                    tasks.close();
                }
                Some(line) => proxy.take(&line?, &answers, &tasks),
            },
            Some(answer) = answered.recv() => outgoing.send(answer).await?,
            () = tasks.wait(), if !reading => {}
            () = stop.cancelled() => break,
        }
    }
    while let Ok(answer) = answered.try_recv() {
        outgoing.send(answer).await?;
    }
    Ok(())
}

/// The server of one connection. Cloning gives another handle.
#[derive(Clone)]
struct Proxy(Arc<Inner>);

struct Inner {
    options: ProxyOptions,
    /// Held while a prompt runs; who waits for it waits in line.
    link: tokio::sync::Mutex<Option<Link>>,
    /// Calls under way, by the client's id.
    calls: Mutex<HashMap<String, CancellationToken>>,
    over: CancellationToken,
}

/// A call under way; dropping it forgets it.
struct Call {
    proxy: Proxy,
    id: String,
    cancelled: CancellationToken,
    _ends: DropGuard,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.proxy.0.calls.lock().remove(&self.id);
    }
}

impl Proxy {
    /// Takes a line; what must wait does so in a task of its own.
    fn take(&self, line: &str, answers: &mpsc::Sender<String>, tasks: &TaskTracker) {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        let (method, id) = (
            message["method"].as_str().unwrap_or_default(),
            message.get("id"),
        );
        if method == "notifications/cancelled" {
            let key = message["params"]["requestId"].to_string();
            if let Some(cancelled) = self.0.calls.lock().get(&key) {
                cancelled.cancel();
            }
        }
        let id = match id {
            Some(id) => id.clone(),
            // Nobody waits for the answer to a notification, but to what cannot be read.
            None if message.is_object() => return,
            None => Value::Null,
        };
        let call = match method {
            "tools/call" => self.enter(&id),
            _ => Ok(None),
        };
        let (proxy, answers) = (self.clone(), answers.clone());
        let method = method.to_owned();
        tasks.spawn(async move {
            let result = match call {
                Ok(call) => proxy.serve(&method, &message["params"], call).await,
                Err(refused) => Err(refused),
            };
            let answer = match result {
                Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
                Err((code, message)) => {
                    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
                }
            };
            // A client that is gone wants no answer.
            let _ = answers.send(answer.to_string()).await;
        });
    }

    /// Enters a call before the next line is read, which may cancel it.
    fn enter(&self, id: &Value) -> Result<Option<Call>, (i32, String)> {
        let mut calls = self.0.calls.lock();
        if calls.len() >= PROXY_CALLS_MAX {
            let sentence = format!("{PROXY_CALLS_MAX} calls wait already; wait for their answers");
            return Err((-32600, sentence));
        }
        let cancelled = self.0.over.child_token();
        let id = id.to_string();
        calls.insert(id.clone(), cancelled.clone());
        Ok(Some(Call {
            proxy: self.clone(),
            id,
            _ends: cancelled.clone().drop_guard(),
            cancelled,
        }))
    }

    async fn serve(
        &self,
        method: &str,
        params: &Value,
        call: Option<Call>,
    ) -> Result<Value, (i32, String)> {
        match method {
            "initialize" => Ok(self.initialize(params).await),
            "ping" => Ok(json!({})),
            "tools/list" => Ok(json!({ "tools": [tool()] })),
            "resources/list" => Ok(json!({ "resources": [] })),
            "resources/templates/list" => Ok(json!({ "resourceTemplates": [] })),
            "prompts/list" => Ok(json!({ "prompts": [] })),
            "tools/call" => {
                let name = params["name"].as_str().unwrap_or_default();
                if name != "acp_prompt" {
                    return Err((-32602, format!("Unknown tool: {name}")));
                }
                let prompt = params["arguments"]["prompt"].as_str();
                let prompt = prompt.ok_or((
                    -32602,
                    "the argument prompt is needed, as a string".to_owned(),
                ))?;
                let cancelled = call.as_ref().map(|call| call.cancelled.clone());
                Ok(self.prompt(prompt, &cancelled.unwrap_or_default()).await)
            }
            "" => Err((-32700, "the line is no JSON-RPC request".to_owned())),
            _ => Err((-32601, format!("Unknown method: {method}"))),
        }
    }

    /// Introduces the agent, if it can be reached soon, and otherwise this proxy.
    async fn initialize(&self, params: &Value) -> Value {
        let asked = params["protocolVersion"].as_str().unwrap_or_default();
        let revision = REVISIONS.iter().find(|revision| **revision == asked);
        let reached = timeout(HELLO_WAIT_MAX, self.reached()).await;
        let info = match reached {
            Ok(Ok(info)) if info.is_object() => info,
            _ => json!({ "name": "agentbus-mcp-proxy", "version": env!("CARGO_PKG_VERSION") }),
        };
        json!({
            "protocolVersion": revision.unwrap_or(&REVISIONS[0]),
            "capabilities": { "tools": {}, "resources": {} },
            "serverInfo": info,
        })
    }

    async fn reached(&self) -> Result<Value, LinkError> {
        let mut link = self.0.link.lock().await;
        Ok(self.open(&mut link).await?.info.clone())
    }

    /// Returns the open connection, opened anew if it broke.
    async fn open<'a>(&self, link: &'a mut Option<Link>) -> Result<&'a mut Link, LinkError> {
        let open = link
            .take()
            .and_then(|mut open| open.is_open().then_some(open));
        let options = &self.0.options;
        let open = match open {
            Some(open) => open,
            None => Link::open(&options.address, options.agent.clone(), options.allow).await?,
        };
        Ok(link.insert(open))
    }

    /// Runs a prompt; returns the result of the tool, which tells of failures too.
    async fn prompt(&self, prompt: &str, cancelled: &CancellationToken) -> Value {
        let mut text = String::new();
        let done = tokio::select! {
            mut link = self.0.link.lock() => {
                let done = match self.open(&mut link).await {
                    Ok(open) => open.prompt(prompt, &mut text, cancelled).await,
                    Err(error) => Err(error),
                };
                if matches!(done, Err(LinkError::Broken(_) | LinkError::Silent(_))) {
                    *link = None;
                }
                done
            }
            () = cancelled.cancelled() => Ok("cancelled".to_owned()),
        };
        let said = |text: &str| json!({ "type": "text", "text": text });
        match done {
            Ok(reason) => {
                let text = if text.is_empty() {
                    "No response"
                } else {
                    &text
                };
                json!({ "content": [said(text)], "_meta": { "stopReason": reason } })
            }
            Err(error) => {
                let heard = Some(said(&text)).filter(|_| !text.is_empty());
                let content: Vec<_> = heard
                    .into_iter()
                    .chain([said(&error.to_string())])
                    .collect();
                json!({ "content": content, "isError": true })
            }
        }
    }
}

fn tool() -> Value {
    json!({
        "name": "acp_prompt",
        "description": "Sends a prompt to the agent and returns its answer. The conversation goes on from call to call.",
        "inputSchema": {
            "type": "object",
            "properties": { "prompt": { "type": "string", "description": "What to ask." } },
            "required": ["prompt"],
        },
    })
}
