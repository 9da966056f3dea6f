//! What keeps agents from asking each other for ever.
//!
//! A message that no turn posted is a root: somebody outside wanted something. A turn that it
//! opens is one step away from it, a turn that the answer opens two, and all turns of one root
//! share a number.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

use super::framing::class;
use crate::model::Message;
use crate::{AgentId, MessageId, limits};

/// The turns that came of each root, as far as they are remembered.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// What turns say, by the turn: its root, and how far it is from it.
    steps: Remembered<String, (MessageId, usize)>,
    /// Turns by root.
    turns: Remembered<MessageId, usize>,
}

/// Why a turn is not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many answers to answers.
    Depth,
    /// Too many turns came of one message.
    Turns,
    /// Two agents only talk to each other.
    PingPong(String, String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (depth, turns) = (limits::TURN_DEPTH_MAX, limits::TURNS_OF_ONE_MESSAGE_MAX);
        match self {
            Self::Depth => write!(
                f,
                "this is the answer to an answer for the {depth}th time, which is the limit"
            )?,
            Self::Turns => write!(
                f,
                "{turns} turns have come of one message already, which is the limit"
            )?,
            Self::PingPong(a, b) => write!(
                f,
                "the last {} messages went back and forth between {a} and {b}",
                limits::TURN_PING_PONG
            )?,
        }
        f.write_str("; a message of a person begins anew")
    }
}

impl Guard {
    /// Whether a message may open a turn, given the newest messages of its thread.
    pub(super) fn admit(
        &mut self,
        cause: &Message,
        tail: &[Message],
        agent: &AgentId,
    ) -> Result<(), Refusal> {
        let (root, depth) = self.root_of(cause);
        if depth >= limits::TURN_DEPTH_MAX {
            return Err(Refusal::Depth);
        }
        let turns = self.turns.get(&root).copied().unwrap_or(0);
        if turns >= limits::TURNS_OF_ONE_MESSAGE_MAX {
            return Err(Refusal::Turns);
        }
        if let Some((one, other)) = only_two(tail, agent) {
            return Err(Refusal::PingPong(one, other));
        }
        self.turns.put(root, turns + 1);
        Ok(())
    }

    /// Remembers a turn that is about to speak. Before it does, because what it says may be heard
    /// before its post returns.
    pub(super) fn speaks(&mut self, cause: &Message, turn: &str) {
        let (root, depth) = self.root_of(cause);
        self.steps.put(turn.to_owned(), (root, depth + 1));
    }

    fn root_of(&self, message: &Message) -> (MessageId, usize) {
        let metadata = message.metadata.as_ref();
        let turn = metadata.and_then(|metadata| metadata["turn"]["id"].as_str());
        let known = turn.and_then(|turn| self.steps.get(turn)).cloned();
        known.unwrap_or_else(|| (message.id.clone(), 0))
    }
}

/// Both names, if the newest messages are all of this agent and one other, by turns.
fn only_two(tail: &[Message], agent: &AgentId) -> Option<(String, String)> {
    if tail.len() < limits::TURN_PING_PONG {
        return None;
    }
    let (own, others): (Vec<_>, Vec<_>) = tail
        .iter()
        .partition(|message| message.author_id.as_deref() == Some(agent.as_str()));
    let (one, other) = (own.first()?, others.first()?);
    let is_agent = |message: &Message| class(message) == "agent";
    let same = |message: &&Message| message.author_id == other.author_id;
    let mut pairs = tail.iter().zip(tail.iter().skip(1));
    let alternate = pairs.all(|(a, b)| a.author_id != b.author_id);
    let holds = tail.iter().all(is_agent) && others.iter().all(same) && alternate;
    holds.then(|| (one.shown_name().to_owned(), other.shown_name().to_owned()))
}

/// A map that forgets its oldest entries.
#[derive(Debug)]
struct Remembered<K, V> {
    known: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Eq + Hash + Clone, V> Remembered<K, V> {
    fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.known.get(key)
    }

    fn put(&mut self, key: K, value: V) {
        if self.known.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > limits::TURNS_REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}
