//! Tools of agents' own entries in the registry.

use std::sync::Arc;

use agentbus_chat::model::Agent;
use agentbus_chat::{
    AgentId, AgentUpdate, ChatError, Credentials, NewAgent, ProvenAgent, ThreadId,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::views::Ok as Done;
use super::{Services, refusal, tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

#[derive(Debug, Deserialize, JsonSchema)]
struct Register {
    /// Where you run, for example `Cursor`.
    ide: String,
    /// The model that you are.
    model: String,
    /// What you are here for.
    description: Option<String>,
    /// What you can do, as plain words.
    capabilities: Option<Vec<String>>,
    /// What you can do, as objects with `id` and `name`.
    skills: Option<Vec<Skill>>,
    /// What others shall call you.
    display_name: Option<String>,
    /// The emoji that stands before your name.
    emoji: Option<String>,
}

/// Something that an agent can do.
#[derive(Debug, Deserialize, JsonSchema, serde::Serialize)]
struct Skill {
    /// For programs.
    id: String,
    /// For people.
    name: String,
    #[serde(flatten)]
    more: serde_json::Map<String, Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Who {
    /// Your agent id.
    agent_id: String,
    /// Your token.
    token: String,
}

impl Who {
    fn proven(&self) -> ProvenAgent {
        ProvenAgent::new(AgentId::new(self.agent_id.as_str()), &self.token)
    }

    fn credentials(self) -> Credentials {
        Credentials {
            agent_id: AgentId::new(self.agent_id),
            token: self.token,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Update {
    /// Your agent id.
    agent_id: String,
    /// Your token.
    token: String,
    description: Option<String>,
    display_name: Option<String>,
    /// Empty to give it up.
    emoji: Option<String>,
    /// Replaces the list.
    capabilities: Option<Vec<String>>,
    /// Replaces the list.
    skills: Option<Vec<Skill>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Typing {
    /// The thread.
    thread_id: String,
    /// Your agent id.
    agent_id: String,
    is_typing: bool,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new(
        "agent_register",
        "Register as an agent without joining a thread. bus_connect does both in one call.",
    );
    tool!(catalog, services, about.extended(), register)?;
    let about = Tool::new("agent_resume", "Come back as the agent that you were.").extended();
    tool!(catalog, services, about, resume)?;
    let about = Tool::new("agent_heartbeat", "Say that you are still there.")
        .gives::<Done>()
        .idempotent();
    tool!(catalog, services, about.extended(), heartbeat)?;
    let about = Tool::new("agent_update", "Change what you say about yourself.").idempotent();
    tool!(catalog, services, about.extended(), update)?;
    let about = Tool::new(
        "agent_unregister",
        "Leave the registry; what you wrote stays.",
    )
    .gives::<Done>()
    .destructive();
    tool!(catalog, services, about.extended(), unregister)?;
    let about = Tool::new(
        "agent_set_typing",
        "Tell the others that you are writing, or not.",
    )
    .gives::<Done>()
    .idempotent();
    tool!(catalog, services, about.extended(), typing)
}

fn list(skills: Option<Vec<Skill>>) -> Option<Vec<Value>> {
    let skills = skills?.into_iter().map(|skill| json!(skill));
    Some(skills.collect())
}

/// How a thread is created by this agent.
fn hint(who: &Credentials) -> Value {
    json!({
        "thread_create_requirement":
            "thread_create takes agent_id and token from its input.",
        "thread_create_example": { "tool": "thread_create", "input": { "topic": "Example topic",
            "agent_id": who.agent_id, "token": who.token } },
    })
}

fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut value, more) {
        fields.extend(more);
    }
    value
}

async fn register(services: &Services, call: &Call, asked: Register) -> Result<Reply, Fault> {
    let new = NewAgent {
        ide: asked.ide,
        model: asked.model,
        description: asked.description,
        capabilities: asked.capabilities.unwrap_or_default(),
        skills: list(asked.skills).unwrap_or_default(),
        display_name: asked.display_name,
        emoji: asked.emoji,
    };
    let registered = match services.chat.register(new).await {
        Ok(registered) => registered,
        Err(error) => return refusal::answer(&error),
    };
    let agent = &registered.agent;
    let known = ProvenAgent::new(agent.id.clone(), &registered.token);
    call.session().bind(known);
    let who = Credentials {
        agent_id: agent.id.clone(),
        token: registered.token.clone(),
    };
    let value = json!({
        "agent_id": agent.id, "name": agent.name, "display_name": agent.shown_name(),
        "alias_source": agent.alias_source, "token": registered.token, "emoji": agent.emoji(),
        "capabilities": agent.capabilities, "skills": agent.skills,
        "last_activity": agent.last_activity, "last_activity_time": agent.last_activity_time,
        "deprecation_info": { "status": "deprecated", "recommended_replacement": "bus_connect",
            "reason": "bus_connect registers and joins a thread in one call.",
            "timeline": "none: this tool goes on working",
            "migration_examples": migration_examples() },
    });
    Ok(Reply::data(&with(value, hint(&who))))
}

/// How to do with `bus_connect` what was done with other tools.
fn migration_examples() -> Value {
    let new = json!({ "ide": "<your IDE>", "model": "<your model>", "capabilities": ["<word>"] });
    let known = json!({ "agent_id": "<agent_id>", "token": "<token>" });
    let call = |tool: &str, input: &Value| json!({ "tool": tool, "input": input });
    let topic = json!({ "thread_name": "<topic>" });
    let join = |who: &Value| call("bus_connect", &with(topic.clone(), who.clone()));
    let create = with(json!({ "topic": "<topic>" }), known.clone());
    json!([
        { "title": "Register", "before": call("agent_register", &new), "after": join(&new),
          "benefit": "The answer also has the thread and what was said in it." },
        { "title": "Register and make a thread",
          "before": [call("agent_register", &new), call("thread_create", &create)],
          "after": join(&new), "benefit": "One call instead of two." },
        { "title": "Come back",
          "before": [call("agent_register", &new), call("agent_resume", &known)],
          "after": join(&known), "benefit": "One call instead of two." },
    ])
}

async fn resume(services: &Services, call: &Call, asked: Who) -> Result<Reply, Fault> {
    let (known, who) = (asked.proven(), asked.credentials());
    match services.chat.resume(who.clone()).await {
        Ok(agent) => {
            call.session().bind(known);
            let timeout = services.chat.config().heartbeat_timeout;
            let value = json!({
                "ok": true, "agent_id": agent.id, "name": agent.name,
                "display_name": agent.shown_name(), "alias_source": agent.alias_source,
                "is_online": agent.is_online(services.chat.now(), timeout),
                "last_heartbeat": agent.last_heartbeat, "last_activity": agent.last_activity,
                "last_activity_time": agent.last_activity_time,
            });
            Ok(Reply::data(&with(value, hint(&who))))
        }
        Err(error @ ChatError::Unauthenticated(_)) => Ok(refusal::refused_with(
            &error.to_string(),
            json!({ "ok": false }),
        )),
        Err(error) => refusal::answer(&error),
    }
}

/// Whether it was done; a wrong token is no, not an error.
fn done(result: Result<(), ChatError>) -> Result<Reply, Fault> {
    match result {
        Ok(()) => Ok(Reply::data(&Done { ok: true })),
        Err(ChatError::Unauthenticated(_)) => Ok(Reply::data(&Done { ok: false })),
        Err(error) => refusal::answer(&error),
    }
}

async fn heartbeat(services: &Services, call: &Call, asked: Who) -> Result<Reply, Fault> {
    let (known, who) = (asked.proven(), asked.credentials());
    let beaten = services.chat.heartbeat(who).await;
    if beaten.is_ok() {
        call.session().bind(known);
    }
    done(beaten)
}

async fn unregister(services: &Services, _: &Call, asked: Who) -> Result<Reply, Fault> {
    done(services.chat.unregister(asked.credentials()).await)
}

async fn update(services: &Services, _: &Call, asked: Update) -> Result<Reply, Fault> {
    let who = Credentials {
        agent_id: AgentId::new(asked.agent_id),
        token: asked.token,
    };
    let update = AgentUpdate {
        description: asked.description,
        display_name: asked.display_name,
        emoji: asked.emoji,
        capabilities: asked.capabilities,
        skills: list(asked.skills),
    };
    match services.chat.update_agent(who, update).await {
        Ok(agent) => Ok(Reply::data(&updated(&agent))),
        Err(error) => {
            let text = match &error {
                ChatError::AgentNotFound(id) => format!("Agent not found: {id}"),
                ChatError::Unauthenticated(_) => "Invalid token for agent_update".to_owned(),
                _ => return refusal::answer(&error),
            };
            Ok(refusal::refused_with(&text, json!({ "ok": false })))
        }
    }
}

fn updated(agent: &Agent) -> Value {
    json!({
        "ok": true, "agent_id": agent.id, "name": agent.name, "display_name": agent.shown_name(),
        "description": agent.description, "capabilities": agent.capabilities,
        "skills": agent.skills, "last_activity": agent.last_activity,
        "last_activity_time": agent.last_activity_time, "emoji": agent.emoji(),
    })
}

async fn typing(services: &Services, _: &Call, asked: Typing) -> Result<Reply, Fault> {
    let (thread, agent) = (ThreadId::new(asked.thread_id), AgentId::new(asked.agent_id));
    done(
        services
            .chat
            .set_typing(thread, agent, asked.is_typing)
            .await,
    )
}
