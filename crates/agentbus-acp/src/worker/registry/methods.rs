//! An agent's own login, done from the command line.
//!
//! The agent is started and introduces itself with its login methods. One of the type `agent` is
//! asked for with `authenticate`; one of the type `terminal` runs the agent's program once more,
//! with the method's arguments after its own, in the terminal of the person.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use agentbus_process::{Exit, Lines, Process, Program, Stdin, Stdout};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::auth::{AuthError, Tell};
use crate::worker::limits::{
    AUTH_METHOD_CHARS_MAX, AUTH_METHODS_MAX, CONNECT_TIMEOUT, LOGIN_WAIT_MAX, TERMINAL_LOGIN_MAX,
};

/// A way to log in that an agent names.
#[derive(Debug, Deserialize)]
struct Method {
    id: String,
    /// `agent` unless it says something else.
    #[serde(rename = "type", default)]
    kind: Kind,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Agent,
    Terminal,
    #[serde(other)]
    Other,
}

/// Logs a person in at an agent, by the method named or the first one that can be done here.
pub(super) async fn log_in(
    agent: &str,
    program: Program,
    wanted: Option<&str>,
    grace: Duration,
    tell: Tell<'_>,
) -> Result<(), AuthError> {
    let failed = |why: String| AuthError::Agent {
        agent: agent.to_owned(),
        why,
    };
    let process = program
        .spawn()
        .await
        .map_err(|error| failed(error.to_string()))?;
    let mut peer = Peer::new(process).ok_or_else(|| failed("it came without its pipes".into()))?;
    let chosen = choose(&mut peer, wanted).await;
    let done = match chosen {
        Ok(Method {
            id,
            kind: Kind::Agent,
            ..
        }) => {
            tell(&format!(
                "The agent {agent} logs in ({id}); it may open a page in the browser."
            ));
            let params = json!({ "methodId": id });
            match timeout(LOGIN_WAIT_MAX, peer.ask("authenticate", &params)).await {
                Ok(answer) => answer.map(|_| None),
                Err(_) => return Err(AuthError::Timeout(LOGIN_WAIT_MAX.as_secs())),
            }
        }
        Ok(method) => Ok(Some(method)),
        Err(why) => Err(why),
    };
    peer.process.terminate(grace).await;
    match done.map_err(failed)? {
        Some(method) => in_terminal(agent, program, method).await,
        None => Ok(()),
    }
}

/// Runs the agent's program for a person to log in.
async fn in_terminal(agent: &str, program: Program, method: Method) -> Result<(), AuthError> {
    if !terminal() {
        let why = format!("{agent} is logged in to in a terminal, and this is none");
        return Err(AuthError::Headless(why));
    }
    let program = program.args(method.args);
    let program = method
        .env
        .into_iter()
        .fold(program, |program, (name, value)| program.env(name, value));
    let failed = |why: String| AuthError::Agent {
        agent: agent.to_owned(),
        why,
    };
    match timeout(TERMINAL_LOGIN_MAX, program.attended()).await {
        Ok(Ok(Exit::Code(0))) => Ok(()),
        Ok(Ok(exit)) => Err(failed(exit.to_string())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(AuthError::Timeout(TERMINAL_LOGIN_MAX.as_secs())),
    }
}

fn terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Asks an agent who it is, and picks one of its methods.
async fn choose(peer: &mut Peer, wanted: Option<&str>) -> Result<Method, String> {
    let capabilities = json!({ "auth": { "terminal": terminal() } });
    let us = json!({ "name": "agentbus-registry", "version": env!("CARGO_PKG_VERSION") });
    let hello =
        json!({ "protocolVersion": 1, "clientCapabilities": capabilities, "clientInfo": us });
    let said = timeout(CONNECT_TIMEOUT, peer.ask("initialize", &hello)).await;
    let said = said.map_err(|_| {
        format!(
            "it did not say who it is within {} s",
            CONNECT_TIMEOUT.as_secs()
        )
    })??;
    let methods = said["authMethods"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let methods = methods.iter().take(AUTH_METHODS_MAX);
    let mut methods: Vec<_> = methods
        .filter_map(|method| Method::deserialize(method).ok())
        .collect();
    methods.retain(|method| {
        method.kind != Kind::Other && method.id.chars().count() <= AUTH_METHOD_CHARS_MAX
    });
    // An agent that does it all by itself asks less of the person.
    methods.sort_by_key(|method| method.kind != Kind::Agent);
    let names: Vec<_> = methods.iter().map(|method| method.id.clone()).collect();
    let mut methods = methods.into_iter();
    match wanted {
        None => methods
            .next()
            .ok_or_else(|| "it names no login that can be done here".to_owned()),
        Some(wanted) => methods
            .find(|method| method.id == wanted)
            .ok_or_else(|| format!("it has no method {wanted}; there is: {}", names.join(", "))),
    }
}

/// The other end of an agent's pipes.
struct Peer {
    process: Process,
    stdin: Stdin,
    lines: Lines<Stdout>,
    next: u64,
}

impl Peer {
    fn new(mut process: Process) -> Option<Self> {
        Some(Self {
            stdin: process.take_stdin()?,
            lines: process.take_stdout()?.lines(),
            process,
            next: 0,
        })
    }

    /// Asks, and waits for the answer.
    async fn ask(&mut self, method: &str, params: &Value) -> Result<Value, String> {
        self.next += 1;
        self.write(
            &json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }),
        )
        .await?;
        loop {
            let line = self.lines.next().await.map_err(|error| error.to_string())?;
            let Some(line) = line else {
                return Err(format!("it ended: {}", self.process.wait().await));
            };
            let Ok(mut said) = serde_json::from_slice::<Value>(&line) else {
                continue;
            };
            if said.get("method").is_some() {
                self.decline(&said["id"]).await?;
            } else if said["id"] == self.next {
                return match said.get("error") {
                    None => Ok(said["result"].take()),
                    Some(error) => {
                        Err(error["message"].as_str().unwrap_or("it refused").to_owned())
                    }
                };
            }
        }
    }

    /// Answers a question of the agent: there is nobody here but for its login.
    async fn decline(&mut self, id: &Value) -> Result<(), String> {
        if id.is_null() {
            return Ok(());
        }
        let error = json!({ "code": -32601, "message": "only a login is done here" });
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "error": error }))
            .await
    }

    async fn write(&mut self, message: &Value) -> Result<(), String> {
        let line = format!("{message}\n");
        let written = self.stdin.write_all(line.as_bytes()).await;
        written.map_err(|error| format!("it does not listen: {error}"))
    }
}
