//! Who calls, and what is known of the connection.

use std::sync::Arc;

use agentbus::Text;
use agentbus::protocol::TraceParent;
use agentbus_chat::{AgentId, ProvenAgent};
use parking_lot::Mutex;

/// Who is authenticated. A session belongs to the one who opened it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: Arc<str>,
    /// The agent it is, if it is one that the bus drives.
    agent: Option<Arc<str>>,
}

impl Principal {
    /// A principal by a name that is no secret.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            agent: None,
        }
    }

    /// An agent that the bus drives.
    #[must_use]
    pub fn agent(name: &str) -> Self {
        Self {
            name: format!("agent {name}").into(),
            agent: Some(name.into()),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The name of the agent, if it is one that the bus drives.
    #[must_use]
    pub fn as_agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }
}

/// Which tools are listed. All of them can be called in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Those that most agents need: every listed tool takes room in a model's context.
    #[default]
    Core,
    /// All of them.
    Full,
}

impl Profile {
    /// The names of the profiles.
    pub const WORDS: [&'static str; 2] = ["core", "full"];

    /// Reads a name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "core" | "default" => Some(Self::Core),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

/// A connection as the host sees it.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Who is authenticated.
    pub principal: Principal,
    /// Which tools it wants to see.
    pub profile: Profile,
    /// The language it asked for.
    pub language: Option<String>,
    /// The span that its request belongs to, such as that of a header `traceparent`.
    pub trace: Option<TraceParent>,
    /// The tenant whose targets and events it means, if that is not the one of the bus.
    pub tenant: Option<Text>,
}

impl Visitor {
    /// A visitor with the usual wishes.
    #[must_use]
    pub const fn new(principal: Principal, profile: Profile) -> Self {
        Self {
            principal,
            profile,
            language: None,
            trace: None,
            tenant: None,
        }
    }
}

/// What a session remembers between calls: which agent speaks on it. A request without a session,
/// as in the newest revision, has one of its own, so nothing is remembered.
#[derive(Debug, Default)]
pub struct Session {
    agent: Mutex<Option<ProvenAgent>>,
}

impl Session {
    /// The agent that proved itself on this session.
    #[must_use]
    pub fn agent(&self) -> Option<AgentId> {
        self.proven().map(|agent| agent.id().clone())
    }

    /// The same with its proof, which a kick ends. The session stays the agent's even then: it must
    /// not pass for one on which no agent ever spoke.
    #[must_use]
    pub fn proven(&self) -> Option<ProvenAgent> {
        self.agent.lock().clone()
    }

    /// Remembers an agent that proved itself.
    pub fn bind(&self, agent: ProvenAgent) {
        *self.agent.lock() = Some(agent);
    }
}
