//! What is asked, by whom, and what can be answered.

use std::fmt;
use std::time::{Duration, SystemTime};

use agentbus::transport::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::form::Form;
use crate::limits::URL_BYTES;

/// Something that happens only when a person says so, or needs what only a person knows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Question {
    /// Who asks.
    pub asker: Asker,
    /// The session it is asked in; empty where there is none.
    pub session: String,
    /// The thread it is asked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// What it is about, in one line.
    pub title: String,
    /// The whole of it, as the asker described it.
    pub detail: Value,
    /// What is asked for.
    #[serde(flatten)]
    pub ask: Ask,
    /// What can be answered.
    pub options: Vec<Choice>,
    /// How long the answer is waited for.
    #[serde(skip)]
    pub patience: Duration,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Asker {
    /// What it is.
    pub kind: AskerKind,
    /// What it is called.
    pub name: String,
}

/// What asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AskerKind {
    /// An agent that the bus drives.
    Agent,
    /// A tool of the bus, of the client that called it.
    Tool,
    /// The coordinator of conversations.
    Coordinator,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Ask {
    /// To be allowed something.
    Permission {
        /// What kind of thing, for example `edit`.
        kind: Option<String>,
    },
    /// Some facts.
    Form {
        /// What is filled in.
        form: Form,
    },
    /// To do something elsewhere, such as to log in.
    Url {
        /// Where.
        url: String,
        /// The asker's own name for it, by which it tells that it is done.
        elicitation: String,
    },
    /// What shall become of a thread.
    Card,
}

/// One possible answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What is sent back to the asker.
    pub id: String,
    /// What a person reads.
    pub name: String,
    /// For a permission `allow_once`, `allow_always`, `reject_once` or `reject_always`; otherwise
    /// the id.
    pub kind: String,
}

/// What somebody answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The id of an option.
    pub option: String,
    /// What was filled into a form that was accepted.
    pub content: Option<Map<String, Value>>,
}

/// A question that is open, as people and programs see it.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// Its name on the board.
    pub id: String,
    /// What is asked.
    #[serde(flatten)]
    pub question: Question,
    /// When it was asked.
    pub since: String,
    /// When it is answered `cancelled`; never without it.
    pub until: Option<String>,
}

/// Finds the answer to a question.
pub trait Decider: fmt::Debug + Send + Sync + 'static {
    /// Returns what was answered, or `None` if nobody did in time.
    ///
    /// Dropping the future withdraws the question.
    fn decide(&self, question: Question) -> BoxFuture<'_, Option<Answer>>;

    /// The same when the answer may also come from somewhere else, which closes the question too;
    /// nobody's answer there withdraws it.
    fn decide_or<'a>(
        &'a self,
        question: Question,
        elsewhere: BoxFuture<'a, Option<Answer>>,
    ) -> BoxFuture<'a, Option<Answer>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = elsewhere => answer,
                answer = self.decide(question) => answer,
            }
        })
    }

    /// Hears from an asker that what it sent a person elsewhere for is done.
    fn complete(&self, asker: &Asker, elicitation: &str) {
        let _ = (asker, elicitation);
    }
}

/// An address to which nobody is sent: a script, a file, or something endless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a person is sent only to an http or https address of at most {URL_BYTES} bytes")]
pub struct NoLink;

/// Answers every question `cancelled`; for hosts without anybody to ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Question {
    /// What accepts a form, or an address.
    pub const ACCEPT: &'static str = "accept";
    /// What declines it.
    pub const DECLINE: &'static str = "decline";
    /// What gives neither answer.
    pub const CANCEL: &'static str = "cancel";

    /// A question with options of its own.
    #[must_use]
    pub fn new(asker: Asker, title: impl Into<String>, ask: Ask, options: Vec<Choice>) -> Self {
        Self {
            asker,
            session: String::new(),
            thread: None,
            title: title.into(),
            detail: Value::Null,
            ask,
            options,
            patience: Duration::MAX,
        }
    }

    /// A question for facts.
    #[must_use]
    pub fn form(asker: Asker, message: impl Into<String>, form: Form) -> Self {
        Self::new(asker, message, Ask::Form { form }, elicited("Send"))
    }

    /// A question that sends a person elsewhere.
    ///
    /// # Errors
    /// Fails for what a page cannot safely make a link of.
    pub fn url(
        asker: Asker,
        message: impl Into<String>,
        url: String,
        elicitation: String,
    ) -> Result<Self, NoLink> {
        let web = ["https://", "http://"].iter().any(|it| url.starts_with(it));
        let stray = |it: char| it.is_control() || it.is_whitespace();
        if !web || url.len() > URL_BYTES || url.contains(stray) {
            return Err(NoLink);
        }
        let ask = Ask::Url { url, elicitation };
        Ok(Self::new(asker, message, ask, elicited("Go there")))
    }

    /// The options, as a sentence lists them.
    #[must_use]
    pub fn option_ids(&self) -> Vec<String> {
        self.options.iter().map(|it| it.id.clone()).collect()
    }

    /// Whether an asker sent a person elsewhere with this, under this name.
    pub(crate) fn is_elicitation(&self, asker: &Asker, name: &str) -> bool {
        let named = matches!(&self.ask, Ask::Url { elicitation, .. } if elicitation == name);
        named && self.asker == *asker
    }

    /// Whether there is such an option.
    #[must_use]
    pub fn offers(&self, option: &str) -> bool {
        self.options.iter().any(|it| it.id == option)
    }
}

fn elicited(accept: &str) -> Vec<Choice> {
    [
        (Question::ACCEPT, accept),
        (Question::DECLINE, "Decline"),
        (Question::CANCEL, "Cancel"),
    ]
    .map(|(id, name)| Choice::plain(id, name))
    .into()
}

impl Choice {
    /// An option that means what its id says.
    #[must_use]
    pub fn plain(id: &str, name: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            kind: id.to_owned(),
        }
    }
}

impl Asker {
    /// An agent.
    #[must_use]
    pub fn agent(name: &str) -> Self {
        Self::of(AskerKind::Agent, name)
    }

    /// A tool.
    #[must_use]
    pub fn tool(name: &str) -> Self {
        Self::of(AskerKind::Tool, name)
    }

    /// The coordinator.
    #[must_use]
    pub fn coordinator() -> Self {
        Self::of(AskerKind::Coordinator, "coordinator")
    }

    fn of(kind: AskerKind, name: &str) -> Self {
        let name = name.to_owned();
        Self { kind, name }
    }
}

impl Answer {
    /// An answer that is an option and nothing more.
    #[must_use]
    pub fn option(id: impl Into<String>) -> Self {
        Self {
            option: id.into(),
            content: None,
        }
    }
}

impl Decider for Nobody {
    fn decide(&self, _: Question) -> BoxFuture<'_, Option<Answer>> {
        Box::pin(std::future::ready(None))
    }
}

/// A time as decisions tell it.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    agentbus::protocol::Timestamp::from_system_time(time).to_string()
}
