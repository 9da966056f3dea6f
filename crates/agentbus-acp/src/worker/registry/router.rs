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
use crate::worker::recent::Recent;

type Message = Map<String, Value>;

/// A message for the client, and the routing id that it is to carry.
type Routed = (Message, Option<Value>);

/// What to do with a line of a client or of an agent.
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
    /// Log a person in at this provider, then answer.
    LogIn {
        provider: String,
        asker: Asker,
    },
    Nothing,
}

/// Whom an answer goes to.
#[derive(Debug, PartialEq)]
pub(super) struct Asker {
    /// The id that its sender gave the request.
    id: Value,
    routing: Option<Value>,
}

impl Asker {
    pub(super) fn refused(&self, refusal: &Refusal) -> String {
        refusal.answer(&self.id, self.routing.as_ref())
    }

    pub(super) fn answered(&self, result: &Value) -> String {
        let mut answer = json!({ "jsonrpc": "2.0", "id": self.id, "result": result });
        if let Some(routing) = &self.routing {
            answer["sessionId"] = routing.clone();
        }
        answer.to_string()
    }
}

/// A request without an answer.
#[derive(Debug)]
struct Pending {
    agent: String,
    asker: Asker,
    /// Whether the answer introduces the agent.
    introduces: bool,
}

/// Where people can log in, and which agents get what comes of it.
#[derive(Debug, Default)]
pub(super) struct Logins {
    pub(super) providers: Vec<String>,
    /// The provider of an agent.
    pub(super) of: HashMap<String, String>,
}

#[derive(Debug)]
pub(super) struct Router {
    index: Index,
    /// The agent of messages that name none.
    default_agent: Option<String>,
    /// Agents that have a key.
    keyed: Box<[String]>,
    logins: Logins,
    next: u64,
    /// Of clients to agents, by our id.
    asked: HashMap<u64, Pending>,
    /// Of agents to clients, by our id.
    wanted: HashMap<u64, Pending>,
    /// Routing ids by agent and ACP session.
    sessions: Recent<(String, String), Value>,
}

impl Router {
    pub(super) fn new(
        index: Index,
        default_agent: Option<String>,
        keyed: Vec<String>,
        logins: Logins,
    ) -> Self {
        Self {
            index,
            default_agent,
            keyed: keyed.into(),
            logins,
            next: 1,
            asked: HashMap::new(),
            wanted: HashMap::new(),
            sessions: Recent::new(ROUTED_SESSIONS_MAX),
        }
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the provider whose tokens an agent gets.
    pub(super) fn provider(&self, agent: &str) -> Option<&str> {
        self.logins.of.get(agent).map(String::as_str)
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
        let asker = id.map(|id| Asker {
            id,
            routing: routing.clone(),
        });
        if let Some(provider) = self.login_wanted(&message) {
            let login = asker.map(|asker| Step::LogIn { provider, asker });
            return login.unwrap_or(Step::Nothing);
        }
        let agent = match self.agent_named(named.as_ref(), &message) {
            Ok(agent) => agent,
            Err(answer) => {
                // Nobody waits for the answer to a notification.
                let answer = asker.map(|asker| Step::Answer(answer.to(&asker)));
                return answer.unwrap_or(Step::Nothing);
            }
        };
        if self.asked.len() >= LAUNCHED_PENDING_MAX
            && let Some(asker) = &asker
        {
            return Step::Answer(asker.refused(&Refusal::too_many(&agent)));
        }
        self.forward(agent, message, asker, routing.as_ref())
    }

    /// Returns the agent of a message, or what is said in its place.
    fn agent_named(&self, named: Option<&Value>, message: &Message) -> Result<String, Instead> {
        let named = named.and_then(Value::as_str).map(str::to_owned);
        let Some(agent) = named.or_else(|| self.default_agent.clone()) else {
            if message["method"] == "initialize" {
                return Err(Instead::Result(self.own_initialize(message)));
            }
            return Err(Refusal::no_agent_named().into());
        };
        let Some(entry) = self.index.get(&agent) else {
            return Err(Refusal::not_found(&agent).into());
        };
        let login = self.keyed.contains(&agent) || self.logins.of.contains_key(&agent);
        if entry.auth_required && !login {
            return Err(Refusal::no_key(&agent, &entry.auth_methods).into());
        }
        Ok(agent)
    }

    fn forward(
        &mut self,
        agent: String,
        mut message: Message,
        asker: Option<Asker>,
        routing: Option<&Value>,
    ) -> Step {
        if message["method"] == "session/new"
            && let Some(entry) = self.index.get(&agent)
        {
            add_servers(&mut message, &entry.mcp_servers);
        }
        self.learn(&agent, message.get("params"), routing);
        self.translate_cancel(&agent, &mut message);
        let request = asker.map(|asker| {
            let ours = self.mint();
            message.insert("id".to_owned(), ours.into());
            let pending = Pending {
                agent: agent.clone(),
                asker,
                introduces: message["method"] == "initialize",
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

    /// Takes a line of an agent.
    pub(super) fn agent_said(&mut self, agent: &str, line: &str) -> Step {
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            tracing::warn!(agent, "an agent wrote a line that is no JSON object");
            return Step::Nothing;
        };
        let (mut message, routing) = if message.contains_key("method") {
            match self.asked_by_agent(agent, message) {
                Ok(told) => told,
                Err(id) => {
                    return Step::Forward {
                        agent: agent.to_owned(),
                        line: Refusal::unheard().answer(&id, None),
                        request: None,
                    };
                }
            }
        } else {
            match self.answered_by_agent(agent, message) {
                Some(told) => told,
                None => return Step::Nothing,
            }
        };
        if let Some(routing) = routing {
            message.insert("sessionId".to_owned(), routing);
        }
        Step::Answer(Value::Object(message).to_string())
    }

    /// Takes a question or a notification; returns it as the client gets it, or the id of a
    /// question too many.
    fn asked_by_agent(&mut self, agent: &str, mut message: Message) -> Result<Routed, Value> {
        let routing = self.routing_of(agent, message.get("params"));
        let Some(id) = message.get("id").cloned() else {
            return Ok((message, routing));
        };
        if self.wanted.len() >= LAUNCHED_PENDING_MAX {
            return Err(id);
        }
        let ours = self.mint();
        message.insert("id".to_owned(), ours.into());
        let pending = Pending {
            agent: agent.to_owned(),
            asker: Asker { id, routing: None },
            introduces: false,
        };
        self.wanted.insert(ours, pending);
        Ok((message, routing))
    }

    /// Takes an answer; only the agent that was asked may give it.
    fn answered_by_agent(&mut self, agent: &str, mut message: Message) -> Option<Routed> {
        let ours = message.get("id").and_then(Value::as_u64)?;
        if self.asked.get(&ours)?.agent != agent {
            return None;
        }
        let Pending {
            asker, introduces, ..
        } = self.asked.remove(&ours)?;
        message.insert("id".to_owned(), asker.id);
        self.learn(agent, message.get("result"), asker.routing.as_ref());
        if introduces && let Some(provider) = self.provider(agent) {
            add_method(&mut message, provider);
        }
        Some((message, asker.routing))
    }

    /// Answers what an agent that is gone was asked.
    pub(super) fn gone(&mut self, agent: &str, refusal: &Refusal) -> Vec<String> {
        self.wanted.retain(|_, pending| pending.agent != agent);
        self.sessions.retain(|(of, _)| of != agent);
        let asked = self.asked.extract_if(|_, pending| pending.agent == agent);
        let mut asked: Vec<_> = asked.collect();
        asked.sort_by_key(|(ours, _)| *ours);
        let asked = asked.into_iter();
        asked
            .map(|(_, pending)| pending.asker.refused(refusal))
            .collect()
    }

    /// Answers one request that could not be passed on.
    pub(super) fn refuse(&mut self, request: u64, refusal: &Refusal) -> Option<String> {
        let pending = self.asked.remove(&request)?;
        Some(pending.asker.refused(refusal))
    }

    /// Passes a client's answer to the agent that asked.
    fn answer_of_client(&mut self, mut message: Message, id: &Value) -> Step {
        let pending = id.as_u64().and_then(|ours| self.wanted.remove(&ours));
        let Some(pending) = pending else {
            return Step::Answer(Refusal::unknown_answer().answer(&Value::Null, None));
        };
        message.insert("id".to_owned(), pending.asker.id);
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
            .filter(|(_, pending)| pending.agent == agent && pending.asker.id == *named);
        // Two clients may use one id; cancelling the wrong one is worse than cancelling none.
        if let (Some((ours, _)), None) = (found.next(), found.next()) {
            *named = (*ours).into();
        }
    }

    /// Returns the provider of a login that is the launcher's to do.
    fn login_wanted(&self, message: &Message) -> Option<String> {
        if message["method"] != "authenticate" {
            return None;
        }
        let method = message.get("params")?.get("methodId")?.as_str()?;
        let wanted = method.strip_prefix(OWN_METHOD)?;
        let mut known = self.logins.providers.iter();
        known.find(|name| *name == wanted).cloned()
    }

    /// What the launcher says of itself to who asks no agent.
    fn own_initialize(&self, message: &Message) -> Value {
        let us = json!({ "name": "agentbus-registry", "title": "AgentBus registry launcher", "version": env!("CARGO_PKG_VERSION") });
        let providers = self.logins.providers.iter();
        let mut methods: Vec<_> = providers.map(|name| own_method(name)).collect();
        let terminal = |message: &Message| {
            let client = message.get("params")?.get("clientCapabilities")?;
            client.get("auth")?.get("terminal")?.as_bool()
        };
        if terminal(message) == Some(true) {
            methods.push(json!({ "id": "terminal-setup", "type": "terminal", "name": "Set up in a terminal", "args": ["--setup"] }));
        }
        json!({ "protocolVersion": 1, "agentInfo": us, "agentCapabilities": {}, "authMethods": methods })
    }

    fn mint(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn learn(&mut self, agent: &str, part: Option<&Value>, routing: Option<&Value>) {
        if let (Some(session), Some(routing)) = (session(part), routing) {
            let key = (agent.to_owned(), session.to_owned());
            self.sessions.insert(key, routing.clone());
        }
    }

    fn routing_of(&mut self, agent: &str, params: Option<&Value>) -> Option<Value> {
        let key = (agent.to_owned(), session(params)?.to_owned());
        self.sessions.get(&key).cloned()
    }
}

fn session(part: Option<&Value>) -> Option<&str> {
    part?.get("sessionId")?.as_str()
}

/// What is said in place of an agent.
enum Instead {
    Result(Value),
    Refusal(Refusal),
}

impl From<Refusal> for Instead {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl Instead {
    fn to(&self, asker: &Asker) -> String {
        match self {
            Self::Result(result) => asker.answered(result),
            Self::Refusal(refusal) => asker.refused(refusal),
        }
    }
}

/// How the login methods of the launcher's own begin, before the provider's name.
const OWN_METHOD: &str = "oauth2-";

/// A login that the launcher does itself.
fn own_method(provider: &str) -> Value {
    let id = format!("{OWN_METHOD}{provider}");
    let what = "Opens a page in the browser of the machine that the bus runs on.";
    json!({ "id": id, "name": format!("Log in at {provider}"), "description": what })
}

/// Puts the launcher's login before those of an agent that introduces itself.
fn add_method(message: &mut Message, provider: &str) {
    let Some(result) = message.get_mut("result").and_then(Value::as_object_mut) else {
        return;
    };
    let methods = result.entry("authMethods").or_insert_with(|| json!([]));
    let (Some(methods), own) = (methods.as_array_mut(), own_method(provider)) else {
        return;
    };
    methods.retain(|method| method["id"] != own["id"]);
    methods.insert(0, own);
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
