//! Who asked what of whom: the launcher's tables, without any input or output.
//!
//! Every id that crosses is replaced by one of ours and put back with its answer, in both
//! directions, so that neither two clients behind one bus nor two agents can be confused. The bus's
//! routing id, the top-level `sessionId`, is taken off and put back as well.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::codes::Refusal;
use super::index::{Index, McpServer};
use crate::worker::limits::{LAUNCHED_PENDING_MAX, ROUTED_SESSIONS_MAX};

type Message = Map<String, Value>;

/// What to do with a line of a client.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Write this to the client.
    Answer(String),
    /// Give this to an agent, which is started if it does not run.
    Forward {
        agent: String,
        line: String,
        /// Our id, if an answer is due.
        request: Option<u64>,
    },
    Nothing,
}

/// A request without an answer.
#[derive(Debug)]
struct Pending {
    agent: String,
    /// The id that its sender gave it.
    id: Value,
    routing: Option<Value>,
}

#[derive(Debug)]
pub(super) struct Router {
    index: Index,
    /// The agent of messages that name none.
    default_agent: Option<String>,
    /// Agents that have a key.
    keyed: Box<[String]>,
    next: u64,
    /// Of clients to agents, by our id.
    asked: HashMap<u64, Pending>,
    /// Of agents to clients, by our id.
    wanted: HashMap<u64, Pending>,
    /// Routing ids by agent and ACP session.
    sessions: HashMap<(String, String), Value>,
}

impl Router {
    pub(super) fn new(index: Index, default_agent: Option<String>, keyed: Vec<String>) -> Self {
        Self {
            index,
            default_agent,
            keyed: keyed.into(),
            next: 1,
            asked: HashMap::new(),
            wanted: HashMap::new(),
            sessions: HashMap::new(),
        }
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Takes a line of a client.
    pub(super) fn client_said(&mut self, line: &str) -> Step {
        let Ok(mut message) = serde_json::from_str::<Message>(line) else {
            return Step::Answer(Refusal::no_json().answer(&Value::Null, None));
        };
        let routing = message.shift_remove("sessionId");
        let named = message.shift_remove("agentId");
        let id = message.get("id").cloned();
        if !message.contains_key("method") {
            return self.answer_of_client(message, &id.unwrap_or_default());
        }
        let named = named.as_ref().and_then(Value::as_str);
        let agent = named
            .map(str::to_owned)
            .or_else(|| self.default_agent.clone());
        let refuse = |refusal: Refusal| match &id {
            Some(id) => Step::Answer(refusal.answer(id, routing.as_ref())),
            // Nobody waits for the answer to a notification.
            None => Step::Nothing,
        };
        let Some(agent) = agent else {
            if message["method"] == "initialize"
                && let Some(id) = &id
            {
                return Step::Answer(own_initialize(id, routing.as_ref()));
            }
            return refuse(Refusal::no_agent_named());
        };
        let Some(entry) = self.index.get(&agent) else {
            return refuse(Refusal::not_found(&agent));
        };
        if entry.auth_required && !self.keyed.contains(&agent) {
            return refuse(Refusal::login(&agent, &entry.auth_methods));
        }
        if message["method"] == "session/new" {
            add_servers(&mut message, &entry.mcp_servers);
        }
        if self.asked.len() >= LAUNCHED_PENDING_MAX && id.is_some() {
            return refuse(Refusal::too_many(&agent));
        }
        self.learn(&agent, message.get("params"), routing.as_ref());
        self.translate_cancel(&agent, &mut message);
        let request = id.map(|id| {
            let ours = self.mint();
            message.insert("id".to_owned(), ours.into());
            let pending = Pending {
                agent: agent.clone(),
                id,
                routing,
            };
            self.asked.insert(ours, pending);
            ours
        });
        let line = Value::Object(message).to_string();
        Step::Forward {
            agent,
            line,
            request,
        }
    }

    /// Takes a line of an agent; returns what the client gets.
    pub(super) fn agent_said(&mut self, agent: &str, line: &str) -> Option<String> {
        let Ok(mut message) = serde_json::from_str::<Message>(line) else {
            tracing::warn!(agent, "an agent wrote a line that is no JSON object");
            return None;
        };
        let routing = if message.contains_key("method") {
            let routing = self.routing_of(agent, message.get("params"));
            if let Some(id) = message.get("id").cloned() {
                if self.wanted.len() >= LAUNCHED_PENDING_MAX {
                    tracing::warn!(agent, "an agent asks more than anybody answers");
                    return None;
                }
                let ours = self.mint();
                message.insert("id".to_owned(), ours.into());
                let pending = Pending {
                    agent: agent.to_owned(),
                    id,
                    routing: None,
                };
                self.wanted.insert(ours, pending);
            }
            routing
        } else {
            let ours = message.get("id").and_then(Value::as_u64)?;
            // Only the agent that was asked may answer.
            if self.asked.get(&ours)?.agent != agent {
                return None;
            }
            let pending = self.asked.remove(&ours)?;
            message.insert("id".to_owned(), pending.id);
            self.learn(agent, message.get("result"), pending.routing.as_ref());
            pending.routing
        };
        if let Some(routing) = routing {
            message.insert("sessionId".to_owned(), routing);
        }
        Some(Value::Object(message).to_string())
    }

    /// Answers what an agent that is gone was asked.
    pub(super) fn gone(&mut self, agent: &str, refusal: &Refusal) -> Vec<String> {
        self.wanted.retain(|_, pending| pending.agent != agent);
        self.sessions.retain(|(of, _), _| of != agent);
        let asked = self.asked.extract_if(|_, pending| pending.agent == agent);
        let mut asked: Vec<_> = asked.collect();
        asked.sort_by_key(|(ours, _)| *ours);
        let answer =
            |(_, pending): (u64, Pending)| refusal.answer(&pending.id, pending.routing.as_ref());
        asked.into_iter().map(answer).collect()
    }

    /// Answers one request that could not be passed on.
    pub(super) fn refuse(&mut self, request: u64, refusal: &Refusal) -> Option<String> {
        let pending = self.asked.remove(&request)?;
        Some(refusal.answer(&pending.id, pending.routing.as_ref()))
    }

    /// Passes a client's answer to the agent that asked.
    fn answer_of_client(&mut self, mut message: Message, id: &Value) -> Step {
        let pending = id.as_u64().and_then(|ours| self.wanted.remove(&ours));
        let Some(pending) = pending else {
            return Step::Answer(Refusal::unknown_answer().answer(&Value::Null, None));
        };
        message.insert("id".to_owned(), pending.id);
        Step::Forward {
            agent: pending.agent,
            line: Value::Object(message).to_string(),
            request: None,
        }
    }

    /// Puts our id into a cancellation, which names a request of the client by its own.
    fn translate_cancel(&self, agent: &str, message: &mut Message) {
        if message["method"] != "$/cancel_request" {
            return;
        }
        let Some(named) = message
            .get_mut("params")
            .and_then(|params| params.get_mut("requestId"))
        else {
            return;
        };
        let mut found = self
            .asked
            .iter()
            .filter(|(_, pending)| pending.agent == agent && pending.id == *named);
        // Two clients may use one id; cancelling the wrong one is worse than cancelling none.
        if let (Some((ours, _)), None) = (found.next(), found.next()) {
            *named = (*ours).into();
        }
    }

    fn mint(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn learn(&mut self, agent: &str, part: Option<&Value>, routing: Option<&Value>) {
        if let (Some(session), Some(routing)) = (session(part), routing)
            && self.sessions.len() < ROUTED_SESSIONS_MAX
        {
            let key = (agent.to_owned(), session.to_owned());
            self.sessions.insert(key, routing.clone());
        }
    }

    fn routing_of(&self, agent: &str, params: Option<&Value>) -> Option<Value> {
        let key = (agent.to_owned(), session(params)?.to_owned());
        self.sessions.get(&key).cloned()
    }
}

fn session(part: Option<&Value>) -> Option<&str> {
    part?.get("sessionId")?.as_str()
}

/// What the launcher says of itself to who asks no agent.
fn own_initialize(id: &Value, routing: Option<&Value>) -> String {
    let us = json!({ "name": "agentbus-registry", "title": "AgentBus registry launcher", "version": env!("CARGO_PKG_VERSION") });
    let result = json!({ "protocolVersion": 1, "agentInfo": us, "agentCapabilities": {}, "authMethods": [] });
    let mut answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
    if let Some(routing) = routing {
        answer["sessionId"] = routing.clone();
    }
    answer.to_string()
}

/// Adds the registry's servers to those of the client, whose names count first.
fn add_servers(message: &mut Message, servers: &[McpServer]) {
    let Some(params) = message.get_mut("params").and_then(Value::as_object_mut) else {
        return;
    };
    let asked = params.entry("mcpServers").or_insert_with(|| json!([]));
    let Some(asked) = asked.as_array_mut() else {
        return;
    };
    for server in servers {
        if asked.iter().any(|one| one["name"] == server.name) {
            continue;
        }
        let env = server.env.iter();
        let env: Vec<_> = env
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect();
        asked.push(json!({ "name": server.name, "command": server.command, "args": server.args, "env": env }));
    }
}

#[cfg(test)]
mod tests;
