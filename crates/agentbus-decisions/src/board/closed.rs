//! What is remembered of questions that were answered: enough to know a repetition, and nothing of
//! what somebody filled in.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use super::{NotTaken, Taken};
use crate::limits::DECISIONS_CLOSED;
use crate::question::{Answer, Ask, Asker, Decision, Question};

/// Closed questions, the oldest forgotten first.
#[derive(Default)]
pub(super) struct Remembered {
    closed: VecDeque<Closed>,
    hasher: RandomState,
}

/// One of them.
pub(super) struct Closed {
    pub(super) id: String,
    pub(super) option: Option<String>,
    /// What was filled in; only its hash is kept.
    content: Option<String>,
    hash: u64,
    /// The asker's own name for what a person was sent elsewhere for.
    elicitation: Option<(Asker, String)>,
}

impl Closed {
    pub(super) fn answered(decision: &Decision, given: &Answer) -> Self {
        Self {
            option: Some(given.option.clone()),
            content: Some(filled(given)),
            ..Self::unanswered(decision)
        }
    }

    pub(super) fn unanswered(decision: &Decision) -> Self {
        let elicitation = match &decision.question.ask {
            Ask::Url { elicitation, .. } => {
                Some((decision.question.asker.clone(), elicitation.clone()))
            }
            _ => None,
        };
        Self {
            id: decision.id.clone(),
            option: None,
            content: None,
            hash: 0,
            elicitation,
        }
    }
}

fn filled(given: &Answer) -> String {
    // An empty form is the same with and without its content.
    let content = given.content.clone().unwrap_or_default();
    serde_json::Value::Object(content).to_string()
}

impl Remembered {
    pub(super) fn keep(&mut self, mut closed: Closed) {
        if let Some(content) = closed.content.take() {
            closed.hash = self.hasher.hash_one(content);
        }
        if self.closed.len() >= DECISIONS_CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back(closed);
    }

    /// What somebody is told who answers a question that is not open.
    pub(super) fn repeated(&self, id: &str, given: &Answer) -> Result<Taken, NotTaken> {
        let Some(closed) = self.closed.iter().find(|closed| closed.id == id) else {
            return Err(NotTaken::Unknown(id.to_owned()));
        };
        let same = closed.option.as_deref() == Some(&given.option)
            && closed.hash == self.hasher.hash_one(filled(given));
        match same {
            true => Ok(Taken {
                option: given.option.clone(),
                already_decided: true,
            }),
            false => Err(NotTaken::Closed {
                decided: closed.option.clone(),
            }),
        }
    }

    /// The question by which an asker sent somebody elsewhere who went.
    pub(super) fn accepted(&self, asker: &Asker, elicitation: &str) -> Option<String> {
        let accepted = |closed: &&Closed| {
            let named = closed.elicitation.as_ref();
            closed.option.as_deref() == Some(Question::ACCEPT)
                && named.is_some_and(|(who, what)| who == asker && what == elicitation)
        };
        let closed = self.closed.iter().rev().find(accepted)?;
        Some(closed.id.clone())
    }
}
