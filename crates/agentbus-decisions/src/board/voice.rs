//! Who answers, and what they may.

use super::NotTaken;
use crate::question::{AskerKind, Question};

/// Who lists and answers questions.
///
/// A question exists so that an agent does not decide by itself, so the agents that the bus drives
/// never answer one: neither their own nor each other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voice {
    /// A person, by the name of what proves it: a browser session, or the token of the bus.
    Person(String),
    /// A program that speaks for a person: an MCP client that has the token of the bus. What it
    /// cannot be is a way around its own person: it sees neither what a tool asks of its client, nor
    /// cards, which are for people only.
    Assistant(String),
    /// An agent.
    Agent(String),
}

const AGENTS_DO_NOT: &str =
    "agents do not answer decisions, neither their own nor others'; a person has to";

impl Voice {
    /// What is told of who answered.
    pub(super) fn name(&self) -> &str {
        let (Self::Person(name) | Self::Assistant(name) | Self::Agent(name)) = self;
        name
    }

    pub(super) const fn may_answer_at_all(&self) -> Result<(), NotTaken> {
        match self {
            Self::Agent(_) => Err(NotTaken::NotYours(AGENTS_DO_NOT)),
            _ => Ok(()),
        }
    }

    /// Whether a question is there for them: an agent sees its own, to know what it waits for.
    pub(super) fn sees(&self, question: &Question) -> bool {
        let by_agent = question.asker.kind == AskerKind::Agent;
        match self {
            Self::Person(_) => true,
            Self::Assistant(_) => by_agent,
            Self::Agent(name) => by_agent && question.asker.name == *name,
        }
    }
}
