//! The registry of agents.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{Agent, AliasSource};
use crate::store::{Promise, Tx};
use crate::{AgentId, AuthProblem, Chat, ChatError, ThreadId, limits, secret};

use super::{Core, json_within, within};

/// An agent before it is registered.
#[derive(Debug, Clone, Default)]
pub struct NewAgent {
    /// The program it lives in.
    pub ide: String,
    /// The model it is.
    pub model: String,
    /// What it is good for.
    pub description: Option<String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// What it can do, in the form of an A2A card.
    pub skills: Vec<Value>,
    /// The name it wants to be shown by.
    pub display_name: Option<String>,
    /// The face it wants to be shown by, instead of the one of its id.
    pub emoji: Option<String>,
}

impl NewAgent {
    /// An agent without anything special.
    #[must_use]
    pub fn new(ide: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            ide: ide.into(),
            model: model.into(),
            ..Self::default()
        }
    }
}

/// An agent that is registered, with its token: the only time that it is shown.
#[derive(Clone)]
pub struct Registered {
    /// The agent.
    pub agent: Agent,
    /// What it proves itself with from now on.
    pub token: String,
}

/// What an agent proves itself with.
#[derive(Clone)]
pub struct Credentials {
    /// Its id.
    pub agent_id: AgentId,
    /// Its token.
    pub token: String,
}

/// An agent that showed its token to a gateway, which remembers so much of it: the hash of the
/// token. It is compared again whenever something is done with it, so it ends with the token, and
/// a kick ends that.
#[derive(Clone)]
pub struct ProvenAgent {
    id: AgentId,
    hashed: String,
}

impl ProvenAgent {
    /// Remembers the token that an agent showed.
    #[must_use]
    pub fn new(id: AgentId, token: &str) -> Self {
        let hashed = secret::hashed(token);
        Self { id, hashed }
    }

    /// The agent.
    #[must_use]
    pub const fn id(&self) -> &AgentId {
        &self.id
    }

    /// Whether the token is still the agent's.
    pub(super) fn holds(&self, tx: &dyn Tx) -> Result<bool, ChatError> {
        let kept = tx.agent_token(&self.id)?.unwrap_or_default();
        Ok(secret::fits_hashed(&kept, &self.hashed))
    }
}

/// What an agent changes about itself; the rest stays. Lists are replaced.
#[derive(Debug, Clone, Default)]
pub struct AgentUpdate {
    /// What it is good for.
    pub description: Option<String>,
    /// What it can do.
    pub capabilities: Option<Vec<String>>,
    /// What it can do, in the form of an A2A card.
    pub skills: Option<Vec<Value>>,
    /// The name it wants to be shown by; empty to give it up.
    pub display_name: Option<String>,
    /// The face it wants to be shown by; empty to give it up.
    pub emoji: Option<String>,
}

/// An agent that was sent away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kicked {
    /// The agent.
    pub agent: Agent,
    /// Where it waited.
    pub threads: Vec<ThreadId>,
}

impl Chat {
    /// Registers an agent. Its outcome holds a secret, so it is not kept for a repeated key.
    ///
    /// # Errors
    /// Fails when a text is too long or there are too many agents.
    pub async fn register(&self, new: NewAgent) -> Result<Registered, ChatError> {
        self.write_with(Promise::Stored, move |core, tx| core.register(tx, new))
            .await
    }

    /// Brings an agent back.
    ///
    /// # Errors
    /// Fails when id and token do not belong together.
    pub async fn resume(&self, who: Credentials) -> Result<Agent, ChatError> {
        self.write(move |core, tx| core.resume(tx, &who)).await
    }

    /// Notes that an agent lives. May be lost in a crash, in which it would not matter.
    ///
    /// # Errors
    /// Fails when id and token do not belong together.
    pub async fn heartbeat(&self, who: Credentials) -> Result<(), ChatError> {
        self.write_with(Promise::Soon, move |core, tx| {
            let agent = core.verified(tx, &who)?;
            Ok(tx.touch_agent(&agent.id, "heartbeat", true, core.now())?)
        })
        .await
    }

    /// Finds the agent that credentials belong to.
    ///
    /// # Errors
    /// Fails when id and token do not belong together.
    pub async fn verify(&self, who: Credentials) -> Result<Agent, ChatError> {
        self.read(move |core, tx| core.verified(tx, &who)).await
    }

    /// Changes what an agent says about itself.
    ///
    /// # Errors
    /// Fails when there is no such agent or the token is wrong.
    pub async fn update_agent(
        &self,
        who: Credentials,
        update: AgentUpdate,
    ) -> Result<Agent, ChatError> {
        self.write(move |core, tx| {
            let found = tx.agent(&who.agent_id)?;
            found.ok_or_else(|| ChatError::AgentNotFound(who.agent_id.clone()))?;
            let mut agent = core.verified(tx, &who)?;
            update.apply(&mut agent);
            check_texts(&agent)?;
            agent.last_activity = Some("update".to_owned());
            agent.last_activity_time = Some(core.now());
            tx.update_agent(&agent)?;
            let told = json!({ "agent_id": agent.id, "name": agent.name,
                "display_name": agent.shown_name() });
            core.emit(tx, "agent.updated", None, told)?;
            core.audit(
                tx,
                &agent.name,
                "agent.update",
                None,
                Some(agent.id.as_str()),
            )?;
            Ok(agent)
        })
        .await
    }

    /// Removes an agent. What it wrote keeps its name.
    ///
    /// # Errors
    /// Fails when id and token do not belong together.
    pub async fn unregister(&self, who: Credentials) -> Result<(), ChatError> {
        self.write(move |core, tx| {
            let agent = core.verified(tx, &who)?;
            for thread in tx.remove_waits_of(&agent.id)? {
                tx.wake(&thread);
            }
            tx.delete_agent(&agent.id)?;
            core.emit(tx, "agent.offline", None, json!({ "agent_id": agent.id }))?;
            core.audit(
                tx,
                &agent.name,
                "agent.unregister",
                None,
                Some(agent.id.as_str()),
            )
        })
        .await
    }

    /// Sends an agent away: its waits end, and its token, its reply tokens and the sessions on
    /// which it proved itself are worth nothing any more. A live agent has none of these: its bus
    /// speaks for it, and a turn that runs is finished.
    ///
    /// # Errors
    /// Fails when there is no such agent.
    pub async fn kick(&self, id: AgentId) -> Result<Kicked, ChatError> {
        self.write(move |core, tx| core.kick(tx, &id)).await
    }

    /// All agents, in the order in which they registered.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn agents(&self) -> Result<Vec<Agent>, ChatError> {
        self.read(|_, tx| Ok(tx.agents()?)).await
    }

    /// Finds an agent.
    ///
    /// # Errors
    /// Fails when there is none.
    pub async fn agent(&self, id: AgentId) -> Result<Agent, ChatError> {
        self.read(move |_, tx| tx.agent(&id)?.ok_or(ChatError::AgentNotFound(id)))
            .await
    }

    /// The agents that wrote in a thread or administer it, in the order in which they registered.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn agents_of(&self, thread: ThreadId) -> Result<Vec<Agent>, ChatError> {
        self.read(move |core, tx| {
            let settings = core.settings(tx, &thread)?;
            let mut ids = tx.participants(&thread)?;
            let admins = [settings.creator, settings.assigned].into_iter().flatten();
            ids.extend(admins.map(|admin| admin.id));
            ids.sort();
            ids.dedup();
            let found = ids.iter().map(|id| tx.agent(id));
            let mut agents = found
                .filter_map(Result::transpose)
                .collect::<Result<Vec<_>, _>>()?;
            agents.sort_by_key(|agent| agent.registered_at);
            Ok(agents)
        })
        .await
    }

    /// Tells the others that an agent is, or is no longer, writing.
    ///
    /// # Errors
    /// Fails when there is no such thread or agent.
    pub async fn set_typing(
        &self,
        thread: ThreadId,
        agent: AgentId,
        typing: bool,
    ) -> Result<(), ChatError> {
        self.write_with(Promise::Soon, move |core, tx| {
            core.thread(tx, &thread)?;
            let found = tx.agent(&agent)?;
            let agent = found.ok_or(ChatError::AgentNotFound(agent))?;
            let told = json!({ "agent_id": agent.name, "is_typing": typing, "thread_id": thread });
            core.emit(tx, "agent.typing", Some(&thread), told)
        })
        .await
    }
}

impl Core {
    pub(super) fn register(&self, tx: &mut dyn Tx, new: NewAgent) -> Result<Registered, ChatError> {
        if tx.count_agents()? >= limits::AGENTS_MAX {
            let (what, limit) = ("agents", limits::AGENTS_MAX);
            return Err(ChatError::TooMany { what, limit });
        }
        let now = self.now();
        let ide = or_else(new.ide.trim(), "Unknown IDE");
        let model = or_else(new.model.trim(), "Unknown Model");
        let chosen = new.display_name.as_deref().map_or("", str::trim);
        let name = free_name(tx, &format!("{ide} ({model})"))?;
        let agent = Agent {
            id: AgentId::new(self.ambient.uuid()),
            display_name: Some(or_else(chosen, &name)),
            alias_source: alias_source(chosen),
            name,
            ide,
            model,
            description: Some(new.description.unwrap_or_default()),
            capabilities: new.capabilities,
            skills: new.skills,
            registered_at: now,
            last_heartbeat: now,
            last_activity: Some("registered".to_owned()),
            last_activity_time: Some(now),
            emoji: new.emoji.as_deref().and_then(face),
        };
        check_texts(&agent)?;
        let token = secret::agent_token(&self.ambient);
        tx.insert_agent(&agent, &secret::hashed(&token))?;
        self.tell_online(tx, &agent)?;
        self.audit(
            tx,
            &agent.name,
            "agent.register",
            None,
            Some(agent.id.as_str()),
        )?;
        Ok(Registered { agent, token })
    }

    pub(super) fn resume(&self, tx: &mut dyn Tx, who: &Credentials) -> Result<Agent, ChatError> {
        let mut agent = self.verified(tx, who)?;
        let now = self.now();
        agent.last_heartbeat = now;
        agent.last_activity = Some("resume".to_owned());
        agent.last_activity_time = Some(now);
        tx.update_agent(&agent)?;
        self.tell_online(tx, &agent)?;
        Ok(agent)
    }

    /// Compares even when there is no such agent, so that its absence takes as long.
    pub(super) fn verified(&self, tx: &dyn Tx, who: &Credentials) -> Result<Agent, ChatError> {
        let kept = tx.agent_token(&who.agent_id)?.unwrap_or_default();
        let fits = secret::fits(&kept, &who.token);
        match tx.agent(&who.agent_id)? {
            Some(agent) if fits => Ok(agent),
            _ => Err(ChatError::Unauthenticated(AuthProblem::Credentials)),
        }
    }

    fn kick(&self, tx: &mut dyn Tx, id: &AgentId) -> Result<Kicked, ChatError> {
        let found = tx.agent(id)?;
        let mut agent = found.ok_or_else(|| ChatError::AgentNotFound(id.clone()))?;
        let threads = tx.remove_waits_of(id)?;
        for thread in &threads {
            tx.wake(thread);
        }
        // Nobody has this token; the agent has to register again.
        let token = secret::hashed(&secret::agent_token(&self.ambient));
        tx.set_agent_token(id, &token)?;
        tx.delete_tokens_of(id)?;
        let long_ago = self.now().before(2 * self.config.heartbeat_timeout);
        agent.last_heartbeat = agent.last_heartbeat.min(long_ago);
        agent.last_activity = Some("kicked".to_owned());
        agent.last_activity_time = Some(long_ago);
        tx.update_agent(&agent)?;
        self.emit(
            tx,
            "agent.offline",
            None,
            json!({ "agent_id": id, "reason": "kicked" }),
        )?;
        self.audit(tx, "", "agent.kick", None, Some(id.as_str()))?;
        Ok(Kicked { agent, threads })
    }

    fn tell_online(&self, tx: &mut dyn Tx, agent: &Agent) -> Result<(), ChatError> {
        let told = json!({ "agent_id": agent.id, "name": agent.name, "ide": agent.ide,
            "model": agent.model });
        self.emit(tx, "agent.online", None, told)
    }
}

impl AgentUpdate {
    fn apply(self, agent: &mut Agent) {
        if let Some(description) = self.description {
            agent.description = Some(description);
        }
        if let Some(capabilities) = self.capabilities {
            agent.capabilities = capabilities;
        }
        if let Some(skills) = self.skills {
            agent.skills = skills;
        }
        if let Some(name) = self.display_name {
            let name = name.trim();
            agent.alias_source = alias_source(name);
            agent.display_name = Some(name.to_owned());
        }
        if let Some(emoji) = self.emoji {
            agent.emoji = face(&emoji);
        }
    }
}

fn face(chosen: &str) -> Option<String> {
    let chosen = chosen.trim();
    (!chosen.is_empty()).then(|| chosen.to_owned())
}

fn or_else(text: &str, other: &str) -> String {
    if text.is_empty() { other } else { text }.to_owned()
}

const fn alias_source(chosen: &str) -> AliasSource {
    if chosen.is_empty() {
        AliasSource::Auto
    } else {
        AliasSource::User
    }
}

/// Adds the smallest number that makes a name unique.
fn free_name(tx: &dyn Tx, wanted: &str) -> Result<String, ChatError> {
    let taken: std::collections::HashSet<_> = tx.names_like(wanted)?.into_iter().collect();
    if !taken.contains(wanted) {
        return Ok(wanted.to_owned());
    }
    let numbered = (2_u32..).map(|number| format!("{wanted} {number}"));
    // There are finitely many agents, so one of the names is free.
    let free = numbered.into_iter().find(|name| !taken.contains(name));
    Ok(free.unwrap_or_else(|| wanted.to_owned()))
}

fn check_texts(agent: &Agent) -> Result<(), ChatError> {
    within("name", agent.name.len(), limits::NAME_BYTES_MAX)?;
    within(
        "display_name",
        agent.shown_name().len(),
        limits::NAME_BYTES_MAX,
    )?;
    check_face(agent.emoji.as_deref().unwrap_or_default())?;
    let description = agent.description.as_ref().map_or(0, String::len);
    within("description", description, limits::PROMPT_BYTES_MAX)?;
    let abilities = agent.capabilities.len().max(agent.skills.len());
    if abilities > limits::ABILITIES_MAX {
        let (what, limit) = ("capabilities or skills", limits::ABILITIES_MAX);
        return Err(ChatError::TooMany { what, limit });
    }
    json_within(
        "capabilities",
        Some(&json!([agent.capabilities, agent.skills])),
    )
}

/// A face stands before a name, so it must not pass for one. What is an emoji changes with every
/// year; what is none for sure does not.
fn check_face(emoji: &str) -> Result<(), ChatError> {
    within("emoji", emoji.len(), limits::EMOJI_BYTES_MAX)?;
    // One letter in a square is a symbol and two are a flag; more would be a word again.
    let squared = |c: &char| matches!(c, '\u{1f100}'..='\u{1f1ff}');
    let unseen = |c: char| matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let foreign = |c: char| {
        (c.is_alphabetic() && !squared(&c)) || unseen(c) || c.is_whitespace() || c.is_control()
    };
    if emoji.contains(foreign) || emoji.chars().filter(squared).count() > 2 {
        let text = "`emoji` must be one symbol, without letters, blanks or control characters";
        return Err(ChatError::invalid(text));
    }
    Ok(())
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered")
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ProvenAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProvenAgent")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("agent_id", &self.agent_id)
            .finish_non_exhaustive()
    }
}
