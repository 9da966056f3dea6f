//! Questions that wait for a person, and who answers them.

use std::fmt;
use std::time::Duration;

use agentbus::transport::BoxFuture;
use serde::Serialize;

/// Something that an agent may do only when somebody says so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Question {
    /// The agent that asks.
    pub agent: String,
    /// The session it asks in; empty when the prompt named none.
    pub session: String,
    /// What it wants to do, in one line.
    pub title: String,
    /// What kind of thing that is, for example `edit`.
    pub kind: Option<String>,
    /// The tool call as the agent described it.
    pub detail: serde_json::Value,
    /// What can be answered.
    pub options: Vec<Choice>,
    /// How long the answer is waited for.
    #[serde(skip)]
    pub patience: Duration,
}

/// One possible answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What is sent back to the agent.
    pub id: String,
    /// What a person reads.
    pub name: String,
    /// `allow_once`, `allow_always`, `reject_once` or `reject_always`.
    pub kind: String,
}

/// Finds the answer to a question.
pub trait Decider: fmt::Debug + Send + Sync + 'static {
    /// Returns the id of the option that was chosen, or `None` if nobody chose in time.
    ///
    /// Dropping the future withdraws the question.
    fn decide(&self, question: Question) -> BoxFuture<'_, Option<String>>;
}

/// Leaves every question open until it is out of time; for hosts without anybody to ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Decider for Nobody {
    fn decide(&self, _: Question) -> BoxFuture<'_, Option<String>> {
        Box::pin(std::future::ready(None))
    }
}
